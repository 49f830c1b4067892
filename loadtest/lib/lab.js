// Where the lab is, and what its control planes are told. Standard ports, unless -e LAB=DIR/lab.json names a lab
// on other ones, or SHOP, SHOP_CONTROL, PAYMENTS_CONTROL and TRAFFIC_CONTROL are set.
import http from 'k6/http';

const found = __ENV.LAB ? JSON.parse(open(fromHere(__ENV.LAB))).members : [];

// k6 takes a relative path to be beside the script.
function fromHere(path) {
  return path.startsWith('/') ? path : `${__ENV.PWD}/${path}`;
}

function addresses(name, role, plane, standard) {
  if (__ENV[name]) return __ENV[name].split(',');
  const members = found.filter((member) => member.role === role);
  return members.length ? members.map((member) => `http://${member[plane]}`) : [standard];
}

export const SHOP = addresses('SHOP', 'shop', 'data', 'http://127.0.0.1:8080')[0];
export const CONTROL = {
  shop: addresses('SHOP_CONTROL', 'shop', 'control', 'http://127.0.0.1:9464'),
  payments: addresses('PAYMENTS_CONTROL', 'payments', 'control', 'http://127.0.0.1:9465'),
  traffic: addresses('TRAFFIC_CONTROL', 'traffic', 'control', 'http://127.0.0.1:9470'),
};

const headers = { 'content-type': 'application/json' };
if (__ENV.FIREDRILL_TOKEN) headers.authorization = `Bearer ${__ENV.FIREDRILL_TOKEN}`;

// Asks the first control plane of a role, or tells every one of them; the answer's JSON, or text.
export function ask(role, path) {
  return told(http.get(CONTROL[role][0] + path, params(role)), role, path);
}

export function tell(role, path, body) {
  const url = (control) => control + path;
  const put = (control) => told(http.put(url(control), JSON.stringify(body), params(role)), role, path);
  return CONTROL[role].map(put)[0];
}

// Ends every process of a role, for whoever started it to start it again.
export function end(role) {
  for (const control of CONTROL[role]) {
    const answer = http.post(`${control}/exit`, JSON.stringify({ how: 'term' }), params(role));
    if (answer.status !== 202) throw new Error(`${role} did not end: ${answer.status} ${answer.error || answer.body}`);
  }
}

function params(role) {
  return { headers, timeout: '5s', tags: { name: `control of ${role}` } };
}

function told(answer, role, path) {
  if (answer.status !== 200) {
    const why = answer.error || answer.body;
    throw new Error(`${role} answered ${path} with ${answer.status}: ${why} (see loadtest/README.md on addresses)`);
  }
  const type = answer.headers['Content-Type'] || '';
  return type.startsWith('application/json') ? answer.json() : answer.body;
}

// k6 plays the users, so the role `traffic` must not: its rate is 0 until giveBack(), or until `ttl_s` is over, should
// k6 be killed; it can be an hour at most. TRAFFIC=keep adds k6's load to that of traffic instead.
export function takeOver(ttl_s) {
  if (__ENV.TRAFFIC === 'keep') return { rate: null };
  const { rate } = ask('traffic', '/load');
  if (rate === 0) {
    throw new Error('traffic is at rate 0 already: another run goes on, or one was killed; see loadtest/README.md');
  }
  tell('traffic', '/load', { rate: 0, ttl_s });
  return { rate };
}

export function giveBack(taken) {
  if (taken && taken.rate !== null) tell('traffic', '/load', { rate: taken.rate });
}
