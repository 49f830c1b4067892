// Does it work at all? A few users for ten seconds, beside those of `traffic`: everything must go well.
//   k6 run loadtest/smoke.js
import http from 'k6/http';
import { check } from 'k6';
import { CONTROL, SHOP } from './lib/lab.js';
import { STATISTICS, arrivals } from './lib/load.js';
import * as users from './lib/users.js';

export const options = {
  scenarios: arrivals(() => [[1, 10]]),
  thresholds: { journey_failed: ['rate==0'], checks: ['rate==1'], dropped_iterations: ['count==0'] },
  summaryTrendStats: STATISTICS,
};

// Ends the run before it begins if a role is not ready.
export function setup() {
  for (const [role, controls] of Object.entries(CONTROL)) {
    for (const control of controls) {
      const answer = http.get(`${control}/readyz`, { tags: { name: 'readyz' } });
      if (answer.status !== 200) throw new Error(`${role} is not ready at ${control}: ${answer.error || answer.body}`);
    }
  }
}

export { browse, login, search } from './lib/users.js';

// What was ordered can be read back.
export function order() {
  const id = users.order();
  const answer = http.get(`${SHOP}/orders/${id}`, { tags: { name: '/orders/{id}' } });
  check(answer, { 'the order is paid': () => answer.status === 200 && answer.json('status') === 'paid' });
}
