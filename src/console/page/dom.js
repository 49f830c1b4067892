// Elements, formats and requests.
//
// Elements are built from text nodes only: what comes from outside (a span's name, an error) is never read
// as markup.

const SVG = 'http://www.w3.org/2000/svg';

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'on') Object.entries(value).forEach(([event, act]) => element.addEventListener(event, act));
    else if (name === 'style') Object.entries(value).forEach(([key, text]) => element.style.setProperty(key, text));
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

export const el = (name, attributes = {}, ...children) => build(document.createElement(name), attributes, children);

export const svg = (name, attributes = {}, ...children) => build(document.createElementNS(SVG, name), attributes, children);

export const byId = (id) => document.getElementById(id);

/// A table; `columns` are headings: `#` marks one that holds numbers, `.` one that a narrow window leaves out.
export function table(caption, columns, rows) {
  const kinds = { '#': 'number', '.': 'services' };
  const heads = columns.map((name) => el('th', { scope: 'col', class: kinds[name[0]] }, name.replace(/^[#.]/, '')));
  return el('table', {}, el('caption', { class: 'unseen' }, caption), el('thead', {}, el('tr', {}, heads)), el('tbody', {}, rows));
}

export const cell = (content, kind = null) => el('td', { class: kind }, content);

export const empty = (...text) => el('p', { class: 'empty' }, ...text);

export function rate(value) {
  if (value === null || value === undefined) return '–';
  return value.toFixed(value < 99.95 && value % 1 > 0.0499 ? 1 : 0);
}

/// A part of a whole in percent. Never 0 or 100 when it is not quite.
export function percent(part, whole) {
  if (!whole) return '–';
  const value = (100 * part) / whole;
  if (part > 0 && value < 0.1) return '< 0.1';
  if (part < whole && value > 99.9) return '> 99.9';
  return value.toFixed(value === 0 || value === 100 ? 0 : 1);
}

export function duration(s) {
  if (s === null || s === undefined) return '–';
  if (s < 0.001) return `${Math.round(s * 1e6)} µs`;
  if (s < 0.01) return `${(s * 1e3).toFixed(1)} ms`;
  if (s < 1) return `${Math.round(s * 1e3)} ms`;
  return `${s.toFixed(s < 10 ? 2 : 1)} s`;
}

export const clock = (s) => new Date(s * 1000).toLocaleTimeString('en-GB');

/// What stands behind the `#` of the address: `token`, and `trace` if one is chosen.
export const place = () => new URLSearchParams(location.hash.slice(1));

/// Asks the console; throws an error with one sentence, and the status if there was an answer.
export async function ask(path) {
  const token = place().get('token');
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { headers, signal: AbortSignal.timeout(5000) }).catch(() => {
    throw new Error('The console does not answer; what you see is old.');
  });
  if (answer.ok) return answer.json();
  const problem = await answer.json().catch(() => ({}));
  const error = new Error(answer.status === 401
    ? 'This console asks for its token: add #token=… to the address, with the value of FIREDRILL_TOKEN.'
    : problem.detail ?? `The console answered ${answer.status}.`);
  error.status = answer.status;
  throw error;
}
