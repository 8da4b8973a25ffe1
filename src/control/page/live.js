// The connection to the server: requests with the token, one stream of events, the summary and the fleet.
//
//   starting ─▶ live ⇄ away (asks again)        token: asks for it, then starts again
//
// Events say that something changed. Up to BURST of them a second are applied to the fleet in memory; above,
// everything is fetched again. After each interruption everything is fetched anew.
import { begin, now, pause, setSkew } from './dom.js';

const BURST = 200;
const POLL_MS = 5000;
const PATIENCE_MS = 5000;
/** Wait for the stream of events before the fleet is fetched, which then has all that came before it. */
const STREAM_MS = 150;
/** Hosts that are kept for the map and the list; beyond, a target selects some. */
export const HOSTS_MAX = 400000;
/** Hosts of one request: their JSON is parsed in one go. */
const HOSTS_PER_REQUEST = 20000;

export const live = Object.assign(new EventTarget(), {
  /** `starting`, `live`, `away` or `token`. */
  phase: 'starting',
  /** Time of the last answer, by the server's clock. */
  at: 0,
  why: '', health: null, summary: null, fleet: null, samples: [],
});
const emit = (name, detail) => live.dispatchEvent(new CustomEvent(name, { detail }));

/** The server's paths. What it does not have is not asked for, and not offered. */
const PATHS = new Set((document.documentElement.dataset.paths ?? '').split(' '));
export const has = (path) => PATHS.has(path);

/** An answer other than success. */
export class Problem extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

const KEY = 'anthill-token';
const token = () => { try { return sessionStorage.getItem(KEY); } catch { return live.token ?? null; } };
/** Number of tokens that were typed. */
let typed = 0;
export function setToken(text) {
  typed += 1;
  live.token = text;
  try { if (text) sessionStorage.setItem(KEY, text); else sessionStorage.removeItem(KEY); } catch { /* kept in memory */ }
  wake();
}

/** Sends a request. Any other status than success is thrown. */
async function send(path, { method = 'GET', body, signal } = {}) {
  const headers = {};
  const key = token();
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal, cache: 'no-store', credentials: 'same-origin' });
  if (answer.ok) return answer;
  let text = `${answer.status} for ${path}`;
  try { text = (await answer.json()).error ?? text; } catch { /* no JSON, as from a proxy */ }
  // A late answer to an older token says nothing of the present one.
  if (answer.status === 401 && key === token()) { live.why = key ? text : ''; phase('token'); connection?.abort(); }
  throw new Problem(answer.status, text);
}

/** The answer to a request, as JSON. Throws a `Problem` with the server's own words. */
export async function ask(path, options = {}) {
  const limit = AbortSignal.timeout(options.patience ?? 30000);
  const signal = options.signal ? AbortSignal.any([options.signal, limit]) : limit;
  let answer;
  try {
    answer = await send(path, { ...options, signal });
  } catch (error) {
    if (options.signal?.aborted || error instanceof Problem) throw error;
    throw new Problem(0, 'the server does not answer');
  }
  const date = Date.parse(answer.headers.get('date'));
  if (date) setSkew(date - Date.now());
  return options.text ? answer.text() : answer.json();
}

function phase(next) {
  if (live.phase === next) return;
  live.phase = next;
  emit('phase');
}

let wake = () => {};
const sleep = (ms) => new Promise((done) => { const timer = setTimeout(done, ms); wake = () => { clearTimeout(timer); done(); }; });

let summaryTimer = 0, summaryAt = 0;
/** Fetches the summary soon, at most once a second. */
export function refresh(delay = 150) {
  if (summaryTimer) return;
  summaryTimer = setTimeout(async () => {
    summaryTimer = 0;
    if (live.phase !== 'live') return;
    try { await getSummary(); } catch (error) { lost(error); }
  }, Math.max(delay, summaryAt + 1000 - Date.now()));
}

let healthAt = 0;
/** Fetches the state of the server: that of its store has no event. */
async function getHealth(signal) {
  healthAt = Date.now();
  live.health = await ask('healthz', { patience: PATIENCE_MS, signal });
}

async function getSummary() {
  summaryAt = Date.now();
  if (summaryAt - healthAt > POLL_MS - 1000) await getHealth();
  const summary = await ask('v1/summary', { patience: PATIENCE_MS });
  if (summary.at) setSkew(Date.parse(summary.at) - Date.now());
  [live.summary, live.at] = [summary, now()];
  live.samples.push([live.at, summary.online]);
  if (live.samples.length > 720) live.samples.shift();
  emit('summary');
}

let connection = null;
function lost(error) {
  if (live.phase !== 'live') return;
  if (error?.status >= 400 && error.status < 500) return;
  live.why = error?.message ?? '';
  connection?.abort();
}

// One stream for all tabs of a browser: the tab that holds the lock reads it, and passes the events on. Without
// locks (an address that is neither loopback nor https) each visible tab reads its own.
const others = 'BroadcastChannel' in self ? new BroadcastChannel('anthill-events') : null;
others?.addEventListener('message', ({ data }) => { if (live.phase === 'live' && !document.hidden) take(data); });

async function follow(signal) {
  if (!navigator.locks || !others) return read(signal);
  return navigator.locks.request('anthill-events', { signal }, () => read(signal));
}

async function read(signal) {
  const answer = await send('v1/events', { signal });
  // What happened before the stream began is in no event.
  emit('fresh');
  refresh(0);
  reload(0);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '', batch = [], timer = 0;
  const flush = () => {
    timer = 0;
    const events = batch.length > BURST ? batch.length : batch;
    batch = [];
    take(events);
    others?.postMessage(events);
  };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Problem(0, 'the server has closed the stream of events');
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const line of lines) if (line.startsWith('data:')) batch.push(JSON.parse(line.slice(5)));
    if (batch.length && !timer) timer = setTimeout(flush, 100);
  }
}

let second = 0, seen = 0, burst = false;
/** Takes events: a list, or their mere number where they are too many. */
function take(events) {
  const many = typeof events === 'number';
  const moment = Math.floor(Date.now() / 1000);
  if (moment !== second) [second, seen] = [moment, 0];
  seen += many ? events : events.length;
  refresh();
  if (many || seen > BURST) {
    if (!burst) setTimeout(calm, 2000);
    burst = true;
    return emit('events', []);
  }
  emit('events', events);
  // A fleet that is being fetched has the older ones of them already: the last event of a host decides.
  if (loading) during = during.concat(events);
  if (live.fleet) live.fleet.apply(events);
}
function calm() {
  if (seen > BURST && Math.floor(Date.now() / 1000) - second < 2) return setTimeout(calm, 2000);
  burst = false;
  reload(0);
}

/** Runs until the page is closed. */
export async function run() {
  let failures = 0, known = 0;
  /** Waits for a token. One may have been typed while an answer to the last one was awaited. */
  const needToken = async () => { if (typed === known) await sleep(3600000); phase('starting'); };
  for (;;) {
    if (document.hidden) { await sleep(3600000); continue; }
    connection = new AbortController();
    const { signal } = connection;
    known = typed;
    // Asked for before a request is refused.
    if (document.documentElement.dataset.token === 'needed' && !token()) { live.why = ''; phase('token'); await needToken(); continue; }
    try {
      await getHealth(signal);
      await getSummary();
      failures = 0;
      phase('live');
      emit('fresh');
      reload(STREAM_MS);
      const ended = follow(signal);
      const poll = setInterval(() => refresh(0), POLL_MS);
      try { await ended; } catch (error) {
        if (error.status !== 503) throw error;
        // Too many follow the events: the counts are fetched every few seconds all the same.
        await new Promise((done) => { signal.addEventListener('abort', done); setTimeout(done, 15000); });
      } finally { clearInterval(poll); }
    } catch (error) {
      if (live.phase === 'token') { await needToken(); continue; }
      if (document.hidden) continue;
      if (!signal.aborted) live.why = error.message;
      connection.abort();
      phase('away');
      failures += 1;
      await sleep(Math.min(5000, 500 * failures));
    }
  }
}
document.addEventListener('visibilitychange', () => { if (document.hidden) connection?.abort(); else wake(); });

/** Hosts as columns: `id[i]`, `state[i]` (a number in `states`), `silence[i]` seconds (−1: never) at `at`, `group[level][i]`. */
class Fleet {
  constructor(target, by) {
    Object.assign(this, { target, by, id: [], state: new Uint8Array(0), silence: new Int32Array(0), states: [], groups: [], group: [], at: 0, index: new Map(), partial: false });
  }
  get length() { return this.id.length; }
  isOnline(i) { return this.state[i] === 0; }
  /** Seconds of silence now. */
  silenceOf(i) { return this.silence[i] < 0 ? null : this.isOnline(i) ? this.silence[i] : this.silence[i] + Math.max(0, (now() - this.at) / 1000); }
  /** Applies events to the rows. */
  apply(events) {
    const changed = [];
    let unknown = false;
    for (const { event, host, reason, at } of events) {
      if (event !== 'online' && event !== 'offline') continue;
      const i = this.index.get(host);
      if (i === undefined) { unknown = true; continue; }
      const state = event === 'online' ? 0 : Math.max(1, this.states.indexOf(reason));
      if (state !== 0 && this.isOnline(i)) this.silence[i] += Math.max(0, (at - this.at) / 1000);
      if (state === 0) this.silence[i] = 0;
      this.state[i] = state;
      changed.push(i);
    }
    if (changed.length) emit('rows', changed);
    if (unknown) reload(1000);
  }
}

let wanted = null, reloading = 0, reloadAt = 0, loadNumber = 0, loading = false, during = [];
/** Wants the fleet of a target, grouped by `by`; `null`: none. It comes with the event `fleet`. */
export function want(target, by) {
  const next = target === null ? null : { target, by };
  if (JSON.stringify(next) === JSON.stringify(wanted)) return;
  wanted = next;
  live.fleet = null;
  clearTimeout(reloading);
  reloading = 0;
  loadNumber += 1;
  if (wanted && live.phase === 'live') load();
}
/** Fetches the wanted fleet again, after `delay` milliseconds at the latest. */
export function reload(delay) {
  const due = Date.now() + delay;
  if (!wanted || (reloading && reloadAt <= due)) return;
  clearTimeout(reloading);
  reloadAt = due;
  reloading = setTimeout(() => { reloading = 0; load(); }, delay);
}

async function load() {
  const number = ++loadNumber, { target, by } = wanted;
  const fleet = new Fleet(target, by);
  [loading, during] = [true, []];
  try {
    let cursor = null;
    do {
      const query = [['target', target], ['by', by], ['limit', HOSTS_PER_REQUEST], ['cursor', cursor]].filter(([, value]) => value);
      const page = await ask(`v1/fleet?${query.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&')}`);
      if (number !== loadNumber) return;
      await append(fleet, page);
      if (number !== loadNumber) return;
      cursor = page.next;
      fleet.partial = !!cursor;
      if (cursor) emit('fleet-part', fleet.length);
    } while (cursor && fleet.length < HOSTS_MAX);
  } catch (error) {
    if (number !== loadNumber) return;
    loading = false;
    if (error.status === 0) return lost(error);
    // A busy server is asked again; what is shown stays meanwhile.
    if (error.status >= 500) reload(2000);
    return live.fleet ? null : emit('fleet-problem', error);
  }
  if (number !== loadNumber) return;
  loading = false;
  live.fleet = fleet;
  emit('fleet');
  fleet.apply(during);
  clearTimeout(reloading);
  reloading = 0;
  if (!document.hidden) reload(fleet.length > 20000 ? 60000 : 15000);
}

async function append(fleet, page) {
  begin();
  const from = fleet.length, total = from + page.id.length;
  fleet.at = Date.parse(page.at);
  fleet.states = page.states;
  const grown = (Type, old) => { const next = new Type(total); next.set(old); return next; };
  fleet.state = grown(Uint8Array, fleet.state);
  fleet.silence = grown(Int32Array, fleet.silence);
  const levels = page.groups.map((names, level) => {
    const known = fleet.groups[level] ?? [], at = new Map(known.map((name, i) => [name, i]));
    fleet.group[level] = grown(Uint32Array, fleet.group[level] ?? []);
    fleet.groups[level] = known;
    return names.map((name) => { if (!at.has(name)) { at.set(name, known.length); known.push(name); } return at.get(name); });
  });
  for (let i = 0; i < page.id.length; i++) {
    fleet.id.push(page.id[i]);
    fleet.index.set(page.id[i], from + i);
    fleet.state[from + i] = page.state[i];
    fleet.silence[from + i] = page.silence_s[i] ?? -1;
    levels.forEach((names, level) => { fleet.group[level][from + i] = names[page.group[level][i]]; });
    if ((i & 511) === 0) await pause();
  }
}
