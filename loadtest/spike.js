// A crowd for four seconds, then an ordinary day again: does the service find back by itself? The promises hold
// before the spike, and from 10 s after it on.
//   k6 run -e RATE=100 -e FACTOR=5 loadtest/spike.js
import { giveBack, takeOver } from './lib/lab.js';
import { STATISTICS, arrivals, elapsed, promises, rate, split } from './lib/load.js';
import * as users from './lib/users.js';

const rates = split(rate(__ENV.RATE || '100'));
const factor = Number(__ENV.FACTOR || 5);
const PHASES = [['before', 20], ['spike', 4], ['healing', 10], ['after', 40]];

// Of all journeys, orders are those that cost most: a card is charged for each.
const times = (phase, journey) => (phase === 'spike' && journey === 'order' ? factor : 1);

export const options = {
  scenarios: arrivals((journey) => PHASES.map(([phase, length_s]) => [rates[journey] * times(phase, journey), length_s])),
  thresholds: Object.assign(promises(',phase:before'), promises(',phase:after'), {
    // For the table: what the spike itself cost.
    'journey_failed{journey:order,phase:spike}': ['rate<=1'],
    'journey_failed{journey:order,phase:healing}': ['rate<=1'],
  }),
  summaryTrendStats: STATISTICS,
};

function phase() {
  let rest_s = elapsed();
  const now = PHASES.find(([, length_s]) => (rest_s -= length_s) < 0);
  return { phase: now ? now[0] : 'after' };
}

export const setup = takeOver;
export const teardown = giveBack;
export const browse = () => users.browse(phase());
export const order = () => users.order(phase());
export const login = () => users.login(phase());
export const search = () => users.search(phase());
