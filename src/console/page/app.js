// The page: asks the console once a second and draws what it says.

import { drawAlerts } from './alerts.js';
import { ARRIVALS, Chart, LATENCY } from './charts.js';
import { ask, byId, cell, clock, duration, el, empty, percent, rate, table } from './dom.js';
import { TraceList } from './traces.js';

/// The share of good arrivals below which users are not well served.
const GOOD_MIN = 0.99;

const arrivals = new Chart(byId('arrivals'), ARRIVALS);
const latency = new Chart(byId('latency'), LATENCY);
const traces = new TraceList();

function figure(name, value, unit, note, bad = false) {
  return el('div', { class: bad ? 'figure bad' : 'figure' },
    el('dt', {}, name), el('dd', {}, el('b', {}, value), value === '–' ? '' : ` ${unit}`), el('dd', { class: 'note' }, note));
}

const kinds = (errors) => Object.entries(errors).sort((one, other) => other[1] - one[1]).map(([kind, count]) => `${kind} × ${count}`).join(', ');

function drawFigures(current) {
  byId('window').textContent = current ? `in the last ${current.seconds.toFixed(0)} settled seconds` : '';
  const total = current?.total;
  const harmed = Boolean(total?.offered) && total.good < GOOD_MIN * total.offered;
  const part = total?.offered ? `${percent(total.good, total.offered)} % of the offered` : '';
  byId('figures').replaceChildren(
    figure('Offered', rate(total?.offered_per_s), '/s', 'users who meant to start'),
    figure('Good', rate(total?.good_per_s), '/s', harmed ? `${part}, below 99 %` : part, harmed),
    figure('p99', duration(total?.p99_s), '', total ? `median ${duration(total.p50_s)}, all journeys together` : ''),
    figure('Errors', percent(total?.bad ?? 0, total?.offered), '%', total ? kinds(total.errors) || 'none' : '', harmed));
}

function drawJourneys(current) {
  const rows = Object.entries(current?.journeys ?? {}).map(([name, seen]) => {
    const harmed = seen.offered > 0 && seen.good < GOOD_MIN * seen.offered;
    const late = Boolean(seen.promise_s) && seen.p99_s > seen.promise_s;
    return el('tr', {}, el('th', { scope: 'row' }, name),
      cell(rate(seen.offered_per_s), 'number'), cell(rate(seen.good_per_s), harmed ? 'number bad' : 'number'),
      cell(`${percent(seen.good, seen.offered)}${seen.offered ? ' %' : ''}`, harmed ? 'number bad' : 'number'),
      cell(duration(seen.p50_s), 'number'), cell(duration(seen.p99_s), late ? 'number bad' : 'number'),
      cell(seen.promise_s ? duration(seen.promise_s) : '–', 'number quiet'),
      cell(kinds(seen.errors) || '–', 'errors'));
  });
  byId('journeys').replaceChildren(rows.length
    ? table('What users get, by journey', ['Journey', '#Offered/s', '#Good/s', '#Good', '#p50', '#p99', '#Promise', 'Errors'], rows)
    : empty('No users yet. They show here a few seconds after traffic has begun.'));
}

function drawRoles(roles) {
  const rows = roles.map((role) => el('tr', {}, el('th', { scope: 'row' }, role.name),
    cell(role.state, role.ready ? 'quiet' : 'bad'), cell(role.pid ? `${role.pid}` : '–', 'number'), cell(`${role.restarts}`, 'number'),
    cell(role.version ?? '–'), cell(role.data ?? '–'), cell(role.control)));
  byId('roles').replaceChildren(rows.length
    ? table('The processes of the lab', ['Name', 'State', '#Process', '#Restarts', 'Version', 'Data plane', 'Control plane'], rows)
    : empty('No lab. Start one with ', el('code', {}, 'firedrill up'), '.'));
}

function notice(text) {
  byId('notice').hidden = !text;
  if (byId('notice').textContent !== text) byId('notice').textContent = text ?? '';
}

function draw(status) {
  traces.otlp = status.otlp;
  notice(status.notice);
  drawAlerts(status.alerts, status.at_s);
  drawFigures(status.window);
  const nothing = 'Nothing to draw yet: a second is settled when all its requests have ended.';
  // What is newer than this is not settled.
  const endS = Math.max(status.at_s - 4, status.history.at(-1)?.at_s ?? 0);
  for (const chart of [arrivals, latency]) chart.draw(status.history, endS, status.history_s, nothing, status.changes);
  drawJourneys(status.window);
  drawRoles(status.roles);
  const ready = status.roles.filter((role) => role.ready).length;
  const lab = status.roles.length ? `${ready} of ${status.roles.length} roles ready` : 'no lab';
  const store = status.store;
  byId('summary').textContent = `${lab} · ${store.traces} traces kept (${(store.bytes / 1048576).toFixed(1)} MiB) · ${clock(status.at_s)}`;
}

/// Looks once a second while somebody looks at the page; the list of traces moves every other time.
async function watch() {
  for (let turn = 0; ; turn += document.hidden ? 0 : 1) {
    if (!document.hidden) {
      try {
        draw(await ask('/api/status'));
        if (turn % 2 === 0) await traces.refresh();
        document.body.classList.remove('old');
      } catch (error) {
        document.body.classList.add('old');
        notice(error.message);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

drawFigures(null);
traces.show();
watch();
window.addEventListener('hashchange', () => location.reload());
