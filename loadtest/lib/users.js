// What users do, as the role `traffic` has it in src/traffic/journeys.rs: the same requests, the same patience,
// the same notion of a good answer. Each journey is one request and returns whether it went well; `order` returns
// the id of the order, which is never 0.
import http from 'k6/http';
import { Rate, Trend } from 'k6/metrics';
import { SHOP } from './lab.js';

export const PATIENCE_S = 2;

// Tagged with the journey, and with whatever the script adds.
const failed = new Rate('journey_failed');
const duration = new Trend('journey_duration', true);

const ITEMS = 10000;
const CUSTOMERS = 1000;
const PASSWORD = 'correct horse battery staple';
const HEAT = 4;
const THINGS = ['red%20lamp', 'chair', 'blue%20k', 'axe', 'radio%207', 'grey'];
let latestOrder = 1;

const below = (end) => Math.floor(Math.random() * end);
const customer = () => 1 + below(CUSTOMERS);
const hotItem = () => 1 + Math.floor(Math.random() ** HEAT * ITEMS);

export function browse(tags) {
  const looks = [
    ['/items', `/items?after=${below(ITEMS)}`],
    ['/customers/{id}/orders', `/customers/${customer()}/orders`],
    ['/orders/{id}', `/orders/${latestOrder}`],
  ];
  // Two of twenty at each of these, one at what sells best, and the others at an item.
  const look = below(20);
  const popular = ['/items/popular', '/items/popular'];
  const [name, path] = look === 0 ? popular : looks[(look - 1) >> 1] || ['/items/{id}', `/items/${hotItem()}`];
  return go('browse', tags, name, 200, (params) => http.get(SHOP + path, params)).good;
}

export function order(tags) {
  const body = { customer_id: customer(), item_id: hotItem(), quantity: 1 + below(3) };
  const send = (params) => {
    params.headers['idempotency-key'] = crypto.randomUUID();
    return http.post(`${SHOP}/orders`, JSON.stringify(body), params);
  };
  const { good, answer } = go('order', tags, '/orders', 201, send);
  if (!good) return 0;
  latestOrder = answer.json('id');
  return latestOrder;
}

export function login(tags) {
  const body = { customer_id: customer(), password: PASSWORD };
  const send = (params) => http.post(`${SHOP}/sessions`, JSON.stringify(body), params);
  return go('login', tags, '/sessions', 201, send).good;
}

export function search(tags) {
  const path = `/search?q=${THINGS[below(THINGS.length)]}`;
  return go('search', tags, '/search', 200, (params) => http.get(SHOP + path, params)).good;
}

// `name` groups requests by route: a URL with an id in it would be a time series of its own.
function go(journey, tags, name, wanted, send) {
  const params = {
    headers: { 'content-type': 'application/json', 'x-request-timeout-ms': `${PATIENCE_S * 1000}` },
    timeout: `${PATIENCE_S}s`,
    tags: { name },
  };
  // From the intent on, as the lab's own users measure: waiting for a connection is waiting too.
  const began = Date.now();
  const answer = send(params);
  const took_ms = Date.now() - began;
  const good = answer.status === wanted;
  const all = Object.assign({ journey }, tags);
  failed.add(!good, all);
  // What failed kept no promise of speed; it counts above.
  if (good) duration.add(took_ms, all);
  return { good, answer };
}
