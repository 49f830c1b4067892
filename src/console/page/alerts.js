// What fires, and what is about to.

import { byId, clock, el, empty } from './dom.js';

/// How long ago, in words that do not jump each second once it is long.
function ago(s) {
  if (s < 60) return `${Math.max(0, Math.round(s))} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

/// One row for alerts that say the same: a promise that is broken over several windows is one piece of news. The
/// list comes with the most urgent first, and rows stay in that order.
function rows(list) {
  const byText = new Map();
  for (const alert of list) {
    const key = JSON.stringify([alert.name, alert.summary]);
    const row = byText.get(key) ?? { ...alert, count: 0 };
    row.count += alert.state === row.state && alert.severity === row.severity ? 1 : 0;
    row.since_s = alert.state === row.state ? Math.min(row.since_s, alert.since_s) : row.since_s;
    byText.set(key, row);
  }
  return [...byText.values()];
}

/// Text in which backticks mark what is code.
const marked = (text) => text.split('`').map((piece, index) => (index % 2 ? el('code', {}, piece) : piece));

function item(alert, nowS) {
  const firing = alert.state === 'firing';
  const kind = firing ? (alert.severity === 'critical' ? 'critical' : 'warning') : 'pending';
  return el('li', { class: `alert ${kind}` },
    el('span', { class: 'state' }, firing ? alert.severity || 'firing' : 'pending'),
    el('div', {},
      el('b', {}, alert.summary || alert.name), ' ',
      el('small', {}, `${alert.name}${alert.count > 1 ? ` × ${alert.count}` : ''}`),
      kind === 'critical' ? el('p', { class: 'quiet' }, marked(alert.description)) : null),
    el('small', { class: 'since' }, `since ${clock(alert.since_s)}, for ${ago(nowS - alert.since_s)}`),
    alert.runbook ? el('a', { href: alert.runbook, target: '_blank', rel: 'noopener', 'data-alert': JSON.stringify([alert.name, alert.labels]) }, 'Runbook') : el('span'));
}

export function drawAlerts(alerts, nowS) {
  const firing = alerts.list.filter((alert) => alert.state === 'firing').length;
  const pending = alerts.list.length - firing;
  const more = alerts.count - alerts.list.length;
  const list = rows(alerts.list);
  const counts = [firing ? `${firing} firing` : '', pending ? `${pending} pending` : '', more > 0 ? `${more} more` : '',
    list.length < alerts.list.length ? `in ${list.length} rows` : '', alerts.source ? `from ${alerts.source}` : ''];
  byId('alerts-count').textContent = counts.filter(Boolean).join(', ');
  const root = byId('alerts');
  // A link that is replaced between press and release would not be followed.
  if (root.querySelector('a:active')) return;
  const focused = root.contains(document.activeElement) ? document.activeElement.dataset.alert : null;
  root.replaceChildren(
    alerts.error ? el('p', { class: 'odd' }, alerts.error) : '',
    alerts.notice ? el('p', { class: 'quiet' }, alerts.notice) : '',
    list.length ? el('ul', { class: 'alerts' }, list.map((alert) => item(alert, nowS)))
      : alerts.error ? '' : empty('No alert is firing or pending.'));
  if (focused) [...root.querySelectorAll('a')].find((link) => link.dataset.alert === focused)?.focus({ preventScroll: true });
}
