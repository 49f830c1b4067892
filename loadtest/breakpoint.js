// Where is the cliff? The load rises in steps, and the run ends in the first step in which one journey in a hundred
// fails or the users cannot be played any more. The thresholds of that step are the ones that are crossed.
//   k6 run -e FROM=60 -e STEP=30 -e TO=300 loadtest/breakpoint.js
import { giveBack, takeOver } from './lib/lab.js';
import { STATISTICS, arrivals, elapsed, split } from './lib/load.js';
import * as users from './lib/users.js';

const [from, step, to] = [__ENV.FROM || 60, __ENV.STEP || 30, __ENV.TO || 300].map(Number);
if (!(from > 0 && step > 0 && to >= from)) {
  throw new Error('FROM, STEP and TO are arrivals a second, above 0, and FROM is not over TO');
}
const LENGTH_S = 15;
const rates = [];
for (let rate = from; rate <= to; rate += step) rates.push(rate);

// A threshold is judged over its whole tag, so each step has a tag of its own; and not in the first seconds, in
// which a handful of samples decides.
const abort = (threshold) => ({ threshold, abortOnFail: true, delayAbortEval: '5s' });
const thresholds = { dropped_iterations: [abort('count==0')] };
for (const rate of rates) thresholds[`journey_failed{step:${rate}}`] = [abort('rate<=0.01')];

export const options = {
  scenarios: arrivals((journey) => rates.map((rate) => [split(rate)[journey], LENGTH_S])),
  thresholds,
  summaryTrendStats: STATISTICS,
};

const now = () => ({ step: `${rates[Math.min(Math.floor(elapsed() / LENGTH_S), rates.length - 1)]}` });

export const setup = takeOver;
export const teardown = giveBack;
export const browse = () => users.browse(now());
export const order = () => users.order(now());
export const login = () => users.login(now());
export const search = () => users.search(now());
