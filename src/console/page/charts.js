// Lines over the last minutes.

import { clock, duration, el, empty, rate, svg } from './dom.js';

const HEIGHT = 180;
const EDGE = { left: 52, right: 10, top: 8, bottom: 22 };

/// Linear from 0 to a round number above all values.
function linear(values) {
  const top = Math.max(1, ...values) * 1.05;
  const unit = 10 ** Math.floor(Math.log10(top));
  const max = unit * [1, 1.2, 1.6, 2, 3, 4, 6, 8, 10].find((step) => step * unit >= top);
  return { at: (value) => value / max, ticks: [0, max / 2, max] };
}

/// Logarithmic over whole decades, at least from 1 ms to 1 s.
function logarithmic(values) {
  const known = values.filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(0.001, ...known)));
  const high = Math.ceil(Math.log10(Math.max(1, ...known)));
  const ticks = Array.from({ length: high - low + 1 }, (_, step) => 10 ** (low + step));
  return { at: (value) => (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low), ticks };
}

/// `10.0 s` is `10 s` on a scale.
const round = (text) => text.replace(/\.0+(?= )/, '');

export const ARRIVALS = {
  name: 'Offered and good arrivals a second over the last three minutes',
  lines: [
    { kind: 'offered', label: 'offered', of: (point) => point.offered },
    { kind: 'good', label: 'good', of: (point) => point.good },
  ],
  scale: linear,
  format: rate,
  between: 'not good',
};

export const LATENCY = {
  name: 'Median and 99th percentile of the latency over the last three minutes',
  lines: [
    { kind: 'p50', label: 'p50', of: (point) => point.p50_s },
    { kind: 'p99', label: 'p99', of: (point) => point.p99_s },
  ],
  scale: logarithmic,
  format: duration,
};

/// Runs of points without a gap in time, in which `of` has a value.
function runs(points, of) {
  const found = [];
  let before = null;
  for (const point of points) {
    if (of(point) === null || of(point) === undefined) {
      before = null;
    } else {
      if (before === null || point.at_s - before > 1.5) found.push([]);
      found.at(-1).push(point);
      before = point.at_s;
    }
  }
  return found;
}

export class Chart {
  constructor(root, spec) {
    this.root = root;
    this.spec = spec;
    this.pointed = null;
    this.last = null;
    new ResizeObserver(() => this.last && this.draw(...this.last)).observe(root);
  }

  draw(points, endS, lengthS, nothing, changes) {
    this.last = [points, endS, lengthS, nothing, changes];
    if (points.length === 0) {
      this.root.replaceChildren(empty(nothing));
      return;
    }
    const width = Math.max(280, this.root.clientWidth);
    const { lines, scale, format } = this.spec;
    const { at, ticks } = scale(points.flatMap((point) => lines.map((line) => line.of(point) ?? 0)));
    const plane = { width: width - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };
    const x = (s) => EDGE.left + plane.width * (1 - (endS - s) / lengthS);
    const y = (value) => EDGE.top + plane.height * (1 - at(value));
    const shown = points.filter((point) => x(point.at_s) >= EDGE.left);
    const marked = changes.filter((change) => x(change.at_s) >= EDGE.left && change.at_s <= endS);
    const drawn = svg('svg', { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: 'img', 'aria-label': this.spec.name },
      ticks.map((tick) => this.level(y(tick), width, round(format(tick)))),
      this.minutes(x, endS, lengthS),
      marked.map((change) => this.mark(x(change.at_s), change)),
      this.spec.between ? this.between(shown, x, y) : [],
      lines.map((line) => runs(shown, line.of).map((run) => svg('polyline', {
        class: `line ${line.kind}`, points: run.map((point) => `${x(point.at_s)},${y(line.of(point))}`).join(' '),
      }))));
    const chosen = this.pointed === null ? null : this.nearest(shown, endS - lengthS * (1 - this.pointed));
    if (chosen) drawn.append(svg('line', { class: 'pointer', x1: x(chosen.at_s), x2: x(chosen.at_s), y1: EDGE.top, y2: HEIGHT - EDGE.bottom }));
    drawn.addEventListener('pointermove', (event) => {
      const box = drawn.getBoundingClientRect();
      this.point((event.clientX - box.left - EDGE.left) / plane.width);
    });
    drawn.addEventListener('pointerleave', () => this.point(null));
    this.root.replaceChildren(this.legend(chosen ?? points.at(-1), chosen !== null, marked.length > 0), drawn);
  }

  point(share) {
    this.pointed = share === null ? null : Math.min(1, Math.max(0, share));
    this.draw(...this.last);
  }

  nearest(points, s) {
    return points.reduce((best, point) => (best && Math.abs(best.at_s - s) <= Math.abs(point.at_s - s) ? best : point), null);
  }

  level(height, width, text) {
    return svg('g', { class: 'level' },
      svg('line', { x1: EDGE.left, x2: width - EDGE.right, y1: height, y2: height }),
      svg('text', { x: EDGE.left - 8, y: height + 4, 'text-anchor': 'end' }, text));
  }

  /// That somebody changed something.
  mark(at, change) {
    const said = change.description ? `: ${change.description}` : '';
    return svg('line', { class: 'change', x1: at, x2: at, y1: EDGE.top, y2: HEIGHT - EDGE.bottom },
      svg('title', {}, `${clock(change.at_s)} ${change.name}, ${change.kind}${said}`));
  }

  minutes(x, endS, lengthS) {
    const labels = [];
    for (let ago = 0; ago <= lengthS; ago += 60) {
      const anchor = ago === 0 ? 'end' : ago >= lengthS ? 'start' : 'middle';
      const text = ago === 0 ? 'now' : `${ago / 60} min ago`;
      labels.push(svg('text', { class: 'time', x: x(endS - ago), y: HEIGHT - 5, 'text-anchor': anchor }, text));
    }
    return labels;
  }

  /// The area between the first line and the second.
  between(points, x, y) {
    const [above, below] = this.spec.lines;
    return runs(points, above.of).map((run) => {
      const edge = (line) => run.map((point) => `${x(point.at_s)},${y(line.of(point))}`);
      return svg('polygon', { class: 'between', points: [...edge(above), ...edge(below).reverse()].join(' ') });
    });
  }

  legend(point, pointed, marked) {
    const entry = (kind, label, text) => el('span', { class: `key ${kind}` }, el('i', { 'aria-hidden': 'true' }), `${label} `, el('b', {}, text));
    const entries = this.spec.lines.map((line) => entry(line.kind, line.label, this.spec.format(line.of(point))));
    if (this.spec.between) entries.push(entry('between', this.spec.between, rate(point.offered - point.good)));
    if (marked) entries.push(entry('change', 'change', ''));
    return el('p', { class: 'legend' }, entries, el('span', { class: 'when' }, pointed ? clock(point.at_s) : ''));
  }
}
