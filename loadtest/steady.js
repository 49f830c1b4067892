// An ordinary day: do users get what they were promised?
//   k6 run -e RATE=100 -e DURATION=2m loadtest/steady.js
import { giveBack, takeOver } from './lib/lab.js';
import { STATISTICS, arrivals, promises, rate, seconds, split } from './lib/load.js';

const rates = split(rate(__ENV.RATE || '100'));
const length_s = seconds(__ENV.DURATION || '2m');

export const options = {
  scenarios: arrivals((journey) => [[rates[journey], length_s]]),
  thresholds: promises(),
  summaryTrendStats: STATISTICS,
};

export const setup = takeOver;
export const teardown = giveBack;
export { browse, login, order, search } from './lib/users.js';
