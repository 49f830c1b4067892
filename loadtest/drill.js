// A drill, with k6 as its users: what drills/NN-id.md says of load, shock, choices and bounds comes from
// drills.json, which `firedrill drill export` writes.
//   k6 run -e DRILL=after-the-spike loadtest/drill.js               the poor option; the outage must happen
//   k6 run -e DRILL=after-the-spike -e FIX=1 loadtest/drill.js      and the fix must end it
//   k6 run -e DRILL=after-the-spike -e OPTION=sound loadtest/drill.js
// Where a shock depends on what the machine can do, -e CALIBRATED='{"NAME": NUMBER}' says what that is.
import { Counter, Rate, Trend } from 'k6/metrics';
import { ask, end, giveBack, takeOver, tell } from './lib/lab.js';
import { JOURNEYS, STATISTICS, arrivals, elapsed, split } from './lib/load.js';
import * as users from './lib/users.js';

const drills = JSON.parse(open('./drills.json'));
const drill = drills[__ENV.DRILL];
if (!drill) {
  throw new Error(`there is no drill "${__ENV.DRILL}"; set -e DRILL to one of: ${Object.keys(drills).join(', ')}`);
}
const allowed = drill.harm === 'nobody' ? ['sound'] : ['poor', 'sound'];
const option = __ENV.OPTION || allowed[0];
if (!allowed.includes(option)) throw new Error(`OPTION cannot be "${option}"; allowed: ${allowed.join(', ')}`);
const fix = __ENV.FIX === '1';
if (drill.meanwhile.some((one) => !one.do.log)) {
  throw new Error(`${__ENV.DRILL} restarts processes one after the other, which k6 cannot: use firedrill drill run`);
}

// On k6's clock, in seconds. The first few seconds fill connections and caches.
const WARM_UP_S = 5;
const { steady, shock, watch, recover } = drill.seconds;
const BEGIN = { since_shock_begin_s: WARM_UP_S + steady };
BEGIN.since_shock_end_s = BEGIN.since_shock_begin_s + shock;
BEGIN.since_fix_s = BEGIN.since_shock_end_s + watch;
const END_S = BEGIN.since_fix_s + (fix ? recover : 0);

const calibrated = JSON.parse(__ENV.CALIBRATED || '{}');
for (const [name, expr] of Object.entries(drill.calibrate)) {
  if (calibrated[name] === undefined) {
    throw new Error(`set -e CALIBRATED='{"${name}": NUMBER}'; ask the metrics of the quiet lab for it: ${expr}`);
  }
}
const amount = (one) => (typeof one === 'object' ? calibrated[one.of] * one.times + (one.plus || 0) : one);
const amounts = (all) => Object.fromEntries(Object.entries(all).map(([name, one]) => [name, amount(one)]));

// k6 is the users, so a surge of theirs is k6's; what else comes from outside is still sent by `traffic`.
const isSurge = ({ role, name }) => role === 'traffic' && name === 'surge';
const surges = drill.shock.filter(isSurge);
const told = drill.shock.filter((shock) => !isSurge(shock));
// Where the harm ends with the shock, the shock must go on for the fix to have anything to cure.
const goesOn = fix && !drill.lasts;

const rates = split(drill.load.rate, drill.load.mix);
function during({ at_s, ttl_s }) {
  const begin_s = BEGIN.since_shock_begin_s + at_s;
  return [begin_s, goesOn ? END_S : begin_s + ttl_s];
}

// [arrivals a second, for how many seconds], over the whole run.
function load(journey) {
  const edges = [0, ...surges.flatMap(during), END_S].sort((a, b) => a - b);
  return edges.slice(1).flatMap((end_s, index) => {
    const begin_s = edges[index];
    const now = surges.filter((surge) => during(surge)[0] <= begin_s && begin_s < during(surge)[1]);
    const factor = now.reduce((product, { parameters }) => product * (amounts(parameters)[journey] || 1), 1);
    return end_s > begin_s ? [[rates[journey] * factor, end_s - begin_s]] : [];
  });
}

// A moment at which something is done once.
function moment(name, at_s, index = 0) {
  return { executor: 'per-vu-iterations', exec: name, startTime: `${at_s}s`, env: { INDEX: `${index}` } };
}

const metrics = {
  goodput_ratio: new Rate('goodput_ratio'),
  offered: new Counter('offered'),
  good: new Counter('good'),
  p99_s: new Trend('p99_s'),
  good_p99_s: new Trend('good_p99_s'),
};

// A bound of the drill as a threshold of k6, on samples that carry the bound's window as a tag.
const judged = [...drill.bounds.both, ...drill.bounds[option], ...(fix ? drill.bounds.fixed : [])].filter((bound) => {
  // Users that `traffic` plays beside k6 are not counted here, and a shock that goes on has no end.
  const elsewhere = bound.signal === 'offered_per_s' && told.some(({ role }) => role === 'traffic');
  return !elsewhere && !(goesOn && bound.since_shock_end_s);
});
const bounds = judged.map((bound) => {
  const anchor = Object.keys(BEGIN).find((name) => bound[name]);
  const [from_s, to_s] = bound[anchor];
  const name = `${bound.journey} ${from_s} to ${to_s} s ${anchor.slice(0, -2).replaceAll('_', ' ')}`;
  return { bound, name, from_s: BEGIN[anchor] + from_s, to_s: BEGIN[anchor] + to_s };
});

function threshold({ bound, from_s, to_s }) {
  const length_s = to_s - from_s;
  const [metric, value, unit] = {
    goodput_ratio: ['goodput_ratio', 'rate', 1],
    offered_per_s: ['offered', 'count', length_s],
    good_per_s: ['good', 'count', length_s],
    p99_s: ['p99_s', 'p(99)', 1],
    good_p99_s: ['good_p99_s', 'p(99)', 1],
  }[bound.signal];
  const limits = [];
  if (bound.min !== undefined) limits.push(`${value}>=${amount(bound.min) * unit}`);
  if (bound.max !== undefined) limits.push(`${value}<=${amount(bound.max) * unit}`);
  return [metric, limits];
}

const thresholds = { dropped_iterations: ['count==0'] };
for (const one of bounds) {
  const [metric, limits] = threshold(one);
  const key = `${metric}{window:${one.name}}`;
  thresholds[key] = (thresholds[key] || []).concat(limits);
}

const scenarios = arrivals(load, JOURNEYS);
told.forEach((shock, index) => { scenarios[`shock_${index}`] = moment('strike', during(shock)[0], index); });
drill.meanwhile.forEach(({ at_s }, index) => {
  scenarios[`meanwhile_${index}`] = moment('meanwhile', BEGIN.since_shock_begin_s + at_s, index);
});
if (fix) scenarios.fix = moment('cure', BEGIN.since_fix_s);

export const options = { scenarios, thresholds, summaryTrendStats: STATISTICS };

function set(choices) {
  // Should this run be killed, the choices go back by themselves.
  for (const [name, option] of choices) tell('shop', `/choices/${name}`, { option, ttl_s: END_S + 30 });
}

export function setup() {
  const poor = ask('shop', '/choices').choices.filter((choice) => choice.option !== 'sound');
  if (poor.length) {
    const names = poor.map(({ name }) => name).join(', ');
    throw new Error(`a drill begins with every choice sound, and these are not: ${names}; use firedrill choices set`);
  }
  const taken = takeOver(END_S + 30);
  try {
    set([...Object.keys(drill.poor).map((name) => [name, option]), ...drill.masks.map((name) => [name, 'poor'])]);
  } catch (error) {
    teardown(taken);
    throw error;
  }
  return taken;
}

export function teardown(taken) {
  set([...Object.keys(drill.poor), ...drill.masks].map((name) => [name, 'sound']));
  told.forEach(({ role, name }) => tell(role, `/shocks/${name}`, { ttl_s: 0.1 }));
  giveBack(taken);
}

export function strike() {
  const shock = told[Number(__ENV.INDEX)];
  const [begin_s, end_s] = during(shock);
  const body = Object.assign({ ttl_s: end_s - begin_s }, amounts(shock.parameters));
  tell(shock.role, `/shocks/${shock.name}`, body);
}

export function meanwhile() {
  const { log } = drill.meanwhile[Number(__ENV.INDEX)].do;
  for (const [role, filter] of Object.entries(log)) tell(role, '/log', { filter, ttl_s: 30 });
}

export function cure() {
  for (const { choice, restart } of drill.fix) {
    if (choice) set(Object.entries(choice));
    if (restart) end(restart);
  }
}

// Several bounds can be on one window, in which a journey counts once.
const windows = bounds.filter(({ name }, index) => bounds.findIndex((other) => other.name === name) === index);

// One journey, counted in each window in which it began.
function fly(journey) {
  const at_s = elapsed();
  const good = Boolean(users[journey]());
  const took_s = elapsed() - at_s;
  for (const { bound, name, from_s, to_s } of windows) {
    if (bound.journey !== journey || at_s < from_s || at_s >= to_s) continue;
    const window = { window: name };
    metrics.goodput_ratio.add(good, window);
    metrics.offered.add(1, window);
    metrics.good.add(good ? 1 : 0, window);
    metrics.p99_s.add(took_s, window);
    if (good) metrics.good_p99_s.add(took_s, window);
  }
}

export const browse = () => fly('browse');
export const order = () => fly('order');
export const login = () => fly('login');
export const search = () => fly('search');
