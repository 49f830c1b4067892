// The same ordinary day for hours: what grows? Users must get what they were promised, and a role's memory and
// open files after an hour must be what they were once it was warm, give or take.
//   k6 run -e RATE=100 -e DURATION=4h -e WARM_UP=5m loadtest/soak.js
import { Gauge } from 'k6/metrics';
import { ask, giveBack, takeOver } from './lib/lab.js';
import { STATISTICS, arrivals, elapsed, promises, rate, seconds, split } from './lib/load.js';

const rates = split(rate(__ENV.RATE || '100'));
const length_s = seconds(__ENV.DURATION || '4h');
const warm_up_s = seconds(__ENV.WARM_UP || '5m');
if (length_s < 2 * warm_up_s) throw new Error('DURATION must be at least twice WARM_UP');
const LOOK_EVERY_S = Math.min(15, warm_up_s);

// How many times as much as when it was warm.
const growth = new Gauge('growth_ratio');
const WATCHED = ['process_resident_memory_bytes', 'process_open_fds'];
const ROLES = ['shop', 'payments'];

const scenarios = arrivals((journey) => [[rates[journey], length_s]]);
scenarios.watch = {
  executor: 'constant-arrival-rate', exec: 'watch', rate: 1, timeUnit: `${LOOK_EVERY_S}s`,
  duration: `${length_s}s`, preAllocatedVUs: 1,
};
const thresholds = promises();
for (const role of ROLES) {
  for (const name of WATCHED) thresholds[`growth_ratio{role:${role},metric:${name}}`] = ['value<=1.5'];
}

export const options = { scenarios, thresholds, summaryTrendStats: STATISTICS };

// Only one VU watches, so it remembers.
const warm = {};

export function watch() {
  if (elapsed() < warm_up_s) return;
  for (const role of ROLES) {
    const text = ask(role, '/metrics');
    for (const metric of WATCHED) {
      const value = Number(new RegExp(`^${metric} (\\S+)$`, 'm').exec(text)[1]);
      const key = `${role} ${metric}`;
      warm[key] = warm[key] || value;
      growth.add(value / warm[key], { role, metric });
    }
  }
}

export const setup = takeOver;
export const teardown = giveBack;
export { browse, login, order, search } from './lib/users.js';
