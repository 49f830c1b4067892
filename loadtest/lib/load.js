// How many users arrive. Always by arrival rate: users do not wait for each other, and a load that slows down
// with the server hides its outage.
import exec from 'k6/execution';
import { PATIENCE_S } from './users.js';

export const MIX = { browse: 60, order: 30, login: 5, search: 5 };
export const JOURNEYS = Object.keys(MIX);

// Arrivals are counted by 100 s, so that a rate of 0.5/s is a whole number.
const UNIT_S = 100;
const perUnit = (rate) => Math.round(rate * UNIT_S);

export function seconds(text) {
  const match = /^(\d+)(s|m|h)$/.exec(text);
  if (!match) throw new Error(`${text} is no length of time; write a number and s, m or h, like 30s`);
  return Number(match[1]) * { s: 1, m: 60, h: 3600 }[match[2]];
}

// Arrivals a second.
export function rate(text) {
  const number = Number(text);
  if (!(number > 0)) throw new Error(`${text} is no rate; write how many users arrive in a second, like 100`);
  return number;
}

// A rate for each journey out of one for all.
export function split(rate, mix = MIX) {
  const whole = Object.values(mix).reduce((sum, part) => sum + part, 0);
  return Object.fromEntries(Object.entries(mix).map(([journey, part]) => [journey, (rate * part) / whole]));
}

// A scenario for each journey: `rateOf(journey)` is a list of [arrivals a second, for how many seconds].
export function arrivals(rateOf, journeys = JOURNEYS) {
  return Object.fromEntries(journeys.map((journey) => [journey, steps(journey, rateOf(journey))]));
}

function steps(journey, list) {
  const peak = Math.max(...list.map(([rate]) => rate));
  return {
    executor: 'ramping-arrival-rate',
    exec: journey,
    startRate: perUnit(list[0][0]),
    timeUnit: `${UNIT_S}s`,
    // A stage of 0 s is a jump.
    stages: list.flatMap(([rate, length_s]) => [
      { target: perUnit(rate), duration: '0s' },
      { target: perUnit(rate), duration: `${length_s}s` },
    ]),
    // As many as there can be under way when everyone waits for as long as a user does.
    preAllocatedVUs: Math.ceil(peak * PATIENCE_S) + 5,
    gracefulStop: `${PATIENCE_S + 1}s`,
  };
}

// Seconds since the scenario of this iteration began.
export function elapsed() {
  return (Date.now() - exec.scenario.startTime) / 1000;
}

// What users were promised, in milliseconds for 99 of 100; alerts/README.md says why. Search has no promise.
const PROMISED_MS = { browse: 250, order: 500, login: 500 };

// The promises as thresholds. `more` narrows them down to other tags; SLACK=n allows n times as long, for a machine
// that is busy with other things.
export function promises(more = '') {
  const slack = Number(__ENV.SLACK || 1);
  const thresholds = { dropped_iterations: ['count==0'] };
  for (const [journey, ms] of Object.entries(PROMISED_MS)) {
    thresholds[`journey_failed{journey:${journey}${more}}`] = ['rate<=0.005'];
    thresholds[`journey_duration{journey:${journey}${more}}`] = [`p(99)<=${ms * slack}`];
  }
  return thresholds;
}

export const STATISTICS = ['med', 'p(95)', 'p(99)', 'max'];
