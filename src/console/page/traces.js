// The list of traces, and the waterfall of the chosen one.

import { ask, byId, cell, clock, duration, el, empty, place, table } from './dom.js';

const LIMIT = 60;

/// Processes export once a second: a trace that nothing was added to for longer is probably whole.
const QUIET_MS = 2000;
const KNOWN = ['traffic', 'shop', 'payments', 'console'];

/// A service keeps its colour: ours by their place, others by their name.
function colour(service) {
  const known = KNOWN.indexOf(service);
  if (known >= 0) return `service-${known}`;
  const sum = [...service].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 997, 7);
  return `service-${KNOWN.length + (sum % 4)}`;
}

/// Services in the order of a request, ours first.
function services(names) {
  const rank = (name) => (KNOWN.includes(name) ? KNOWN.indexOf(name) : KNOWN.length);
  return [...names].sort((one, other) => rank(one) - rank(other)).map(service);
}

const service = (name) => el('span', { class: `service ${colour(name)}` }, name);

export class TraceList {
  constructor() {
    this.query = '';
    this.held = false;
    this.chosen = place().get('trace');
    for (const button of byId('filters').children) {
      button.addEventListener('click', () => this.filter(button));
    }
    byId('hold').addEventListener('click', () => this.hold(!this.held));
  }

  filter(button) {
    this.query = button.dataset.query;
    for (const other of byId('filters').children) other.setAttribute('aria-pressed', other === button);
    this.hold(false);
    this.refresh(true);
  }

  /// A held list stands still, so that it can be read and walked through with the keyboard.
  hold(held) {
    this.held = held;
    byId('hold').setAttribute('aria-pressed', held);
    byId('held').textContent = held ? 'The list stands still.' : '';
  }

  async refresh(force = false) {
    if (this.held && !force) return;
    const query = this.query;
    const listing = await ask(`/api/traces?limit=${LIMIT}&quiet_ms=${QUIET_MS}&${query}`);
    if (query !== this.query || (this.held && !force)) return;
    byId('matched').textContent = listing.matched > LIMIT ? `latest ${LIMIT} of ${listing.matched}` : '';
    const rows = listing.traces.map((trace) => this.row(trace));
    const list = byId('list');
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.trace : null;
    if (rows.length === 0) list.replaceChildren(this.nothing());
    else list.replaceChildren(table('The last traces', ['Time', 'Root', '.Services', '#Spans', '#Duration', 'Status'], rows));
    if (focused) list.querySelector(`[data-trace="${focused}"]`)?.focus();
  }

  nothing() {
    if (this.query !== '') return empty('None of the kept traces is like that. ', 'Choose All to see the others.');
    const endpoint = `http://${this.otlp ?? '127.0.0.1:4318'}`;
    return empty('No traces have arrived yet. Let a program send them here over OTLP: ',
      el('code', {}, `OTEL_EXPORTER_OTLP_ENDPOINT=${endpoint}`), ', protocol http/protobuf, no compression.');
  }

  row(trace) {
    const button = el('button', { type: 'button', class: 'link', 'data-trace': trace.id, on: { click: () => this.choose(trace.id) } }, trace.name || '(no name)');
    const late = trace.root_arrived ? null : el('small', { title: 'The root span has not arrived yet.' }, ' …');
    const status = trace.failed ? 'failed' : trace.errors > 0 ? 'inner error' : 'ok';
    return el('tr', { 'data-row': trace.id, class: trace.id === this.chosen && 'chosen', on: { click: () => this.choose(trace.id) } },
      cell(clock(trace.start_s)), cell([button, late].filter(Boolean), 'name'), cell(services(trace.services), 'services'),
      cell(`${trace.spans}`, 'number'), cell(duration(trace.duration_s), 'number'),
      cell(status, trace.failed ? 'bad' : trace.errors > 0 ? 'odd' : 'quiet'));
  }

  async choose(id) {
    this.chosen = id;
    this.hold(true);
    for (const row of byId('list').querySelectorAll('tr[data-row]')) row.classList.toggle('chosen', row.dataset.row === id);
    const hash = place();
    hash.set('trace', id);
    history.replaceState(null, '', `#${hash}`);
    await this.show();
  }

  /// Draws the chosen trace, or says that none is.
  async show() {
    const id = this.chosen;
    if (!id) {
      byId('trace').replaceChildren(empty('Choose a trace to see which span waited for which.'));
      return;
    }
    try {
      const trace = await ask(`/api/traces/${encodeURIComponent(id)}`);
      if (id === this.chosen) byId('trace').replaceChildren(...waterfall(trace, () => this.show()));
    } catch (error) {
      const gone = error.status === 404 ? 'This trace is no longer kept: only the last ones are. Choose another.' : error.message;
      byId('trace').replaceChildren(empty(gone));
    }
  }
}

function waterfall(trace, again) {
  const head = el('p', { class: 'trace-head' },
    el('b', {}, trace.name), ` took ${duration(trace.duration_s)} from ${clock(trace.start_s)} on. `,
    services(trace.services), el('code', {}, trace.id));
  const ticks = [0, 0.5, 1].map((share) => el('span', { style: { left: `${100 * share}%` } }, share === 0 ? '0' : duration(share * trace.duration_s)));
  const rows = trace.rows.map((row) => bar(row, trace.duration_s));
  const notes = [];
  if (!trace.root_arrived) notes.push(empty('The root span has not arrived: the request may still be under way. ', el('button', { type: 'button', on: { click: again } }, 'Look again')));
  if (trace.spans_dropped > 0) notes.push(empty(`${trace.spans_dropped} further spans were not kept.`));
  const axis = el('div', { class: 'axis', 'aria-hidden': 'true' }, el('span', { class: 'ticks' }, ticks));
  return [head, ...notes, el('div', { class: 'scroll' }, axis, el('ol', { class: 'waterfall' }, rows))];
}

function bar(row, wholeS) {
  const whole = wholeS || 1;
  const left = (100 * row.start_offset_s) / whole;
  const width = (100 * row.duration_s) / whole;
  const failed = row.status === 'error';
  const details = el('div', { class: 'details', hidden: true });
  const button = el('button', {
    type: 'button', class: `span ${colour(row.service)}`, 'aria-expanded': 'false',
    on: { click: () => toggle(button, details, row) },
  },
  el('span', { class: 'label', style: { 'padding-left': `${0.75 * Math.min(row.depth, 16)}rem` } },
    el('i', { 'aria-hidden': 'true' }), failed ? el('b', { class: 'bad' }, 'error ') : null, `${row.name} `, el('small', {}, row.service)),
  el('span', { class: 'track' }, el('span', { class: failed ? 'work failed' : 'work', style: { left: `${left}%`, width: `${width}%` } })),
  el('span', { class: 'took' }, duration(row.duration_s)));
  return el('li', {}, button, details);
}

function toggle(button, details, row) {
  const open = button.getAttribute('aria-expanded') !== 'true';
  button.setAttribute('aria-expanded', open);
  details.hidden = !open;
  const facts = [
    ['status', row.message ? `${row.status}: ${row.message}` : row.status],
    ['kind', row.kind],
    ['process', row.instance || row.service],
    ['begins after', duration(row.start_offset_s)],
    ['lasts', duration(row.duration_s)],
    ...Object.entries(row.attributes).map(([key, value]) => [key, typeof value === 'string' ? value : JSON.stringify(value)]),
    ['span id', row.id],
  ];
  if (row.detached) facts.push(['parent', `${row.parent} has not arrived`]);
  details.replaceChildren(el('dl', {}, facts.map(([key, value]) => [el('dt', {}, key), el('dd', {}, value)])));
}
