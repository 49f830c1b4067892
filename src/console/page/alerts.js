// What fires, and what is about to.

import { byId, clock, el, empty } from './dom.js';

/// How long ago, in words that do not jump each second once it is long.
function ago(s) {
  if (s < 60) return `${Math.max(0, Math.round(s))} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

function runbook(alert) {
  if (!alert.runbook) return null;
  return el('a', { href: alert.runbook, target: '_blank', rel: 'noopener' }, 'Runbook');
}

function item(alert, nowS) {
  const kind = alert.state === 'firing' ? alert.severity : 'pending';
  return el('li', { class: `alert ${kind === 'critical' ? 'critical' : kind === 'pending' ? 'pending' : 'warning'}` },
    el('span', { class: 'state' }, alert.state === 'firing' ? alert.severity || 'firing' : 'pending'),
    el('div', {},
      el('b', {}, alert.summary || alert.name),
      el('p', {}, alert.description),
      el('p', { class: 'quiet' }, `${alert.name} · since ${clock(alert.since_s)}, ${ago(nowS - alert.since_s)}`)),
    runbook(alert));
}

/// What was drawn last: drawing the same again each second would take the focus and the selection away.
let drawn = '';

export function drawAlerts(alerts, nowS) {
  const state = JSON.stringify([alerts, Math.floor(nowS)]);
  if (state === drawn || byId('alerts').contains(document.activeElement)) return;
  drawn = state;
  const firing = alerts.list.filter((alert) => alert.state === 'firing').length;
  const more = alerts.count - alerts.list.length;
  byId('alerts-count').textContent = [
    firing ? `${firing} firing` : '', alerts.list.length > firing ? `${alerts.list.length - firing} pending` : '',
    more > 0 ? `${more} more` : '', alerts.source ? `from ${alerts.source}` : ''].filter(Boolean).join(', ');
  byId('alerts').replaceChildren(
    alerts.error ? el('p', { class: 'odd' }, alerts.error) : '',
    alerts.list.length ? el('ul', { class: 'alerts' }, alerts.list.map((alert) => item(alert, nowS)))
      : alerts.error ? '' : empty('No alert is firing or pending.'));
}
