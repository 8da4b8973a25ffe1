// Building of elements. Every text from outside passes `safe` and becomes a text node, never markup.

/** Control, bidirectional and invisible characters, and white space but the blank: those that the server's `escape` has. */
const UNSAFE = /[\0-\x1f\x7f-\xa0\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffc\u{110bd}\u{110cd}\u{13430}-\u{1343f}\u{13441}\u{13442}\u{16fe4}\u{1bca0}-\u{1bca3}\u{1d159}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}\p{NChar}\p{Cs}]/gu;
const BLOCK = new RegExp(`(?![\\n\\t])${UNSAFE.source}`, 'gu');
const shown = (c) => `\\u{${c.codePointAt(0).toString(16)}}`;
/** Most texts are plain, and this test is much faster than the expression above. */
const PLAIN = /^[ -~]*$/;

/** `text` on one line, with each unsafe character as `\u{…}`. */
export const safe = (text) => (PLAIN.test(text) ? String(text) : String(text).replace(UNSAFE, shown));
/** The same for outputs, which keep their line breaks and tabs. */
export const safeBlock = (text) => String(text).replace(/\r\n/g, '\n').replace(BLOCK, shown);

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value == null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked') element[name] = value;
    else element.setAttribute(name, value === true ? '' : name === 'href' ? value : safe(value));
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(3)) {
    if (child == null || child === false) continue;
    element.append(child instanceof Node ? child : safe(child));
  }
}

/** An element with attributes (`onclick` and its like are listeners) and children. */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
/** An output, with its lines. */
export const block = (text) => {
  const pre = h('pre', { tabindex: 0, role: 'group', 'aria-label': 'Output' });
  pre.append(safeBlock(text));
  return pre;
};
/** Replaces the children of `element`, unless they would be the same: `sign` stands for what is shown. A function makes them then. */
export function show(element, sign, ...children) {
  if (sign != null && element.sign === sign) return;
  element.sign = sign;
  element.replaceChildren();
  add(element, children.map((child) => (typeof child === 'function' ? child() : child)));
}

/** Rows by key: a row whose sign has not changed stays, and with it the focus. */
export function keyed(parent, items, keyOf, signOf, make) {
  parent.sign = undefined;
  const old = new Map([...parent.children].map((row) => [row.key, row]));
  let at = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item), sign = signOf(item);
    let row = old.get(key);
    if (!row || row.sign !== sign) {
      const next = make(item);
      [next.key, next.sign] = [key, sign];
      if (row) { if (at === row) at = next; row.replaceWith(next); }
      row = next;
    }
    old.delete(key);
    if (row === at) at = at.nextSibling;
    else parent.insertBefore(row, at);
  }
  for (const row of old.values()) row.remove();
}

export const count = (n) => n == null ? '–' : String(n).replace(/\B(?=(\d{3})+$)/g, ',');
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** A length of time: `12 s`, `3 min`, `5 h`, `2 d`. */
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}
const two = (n) => String(n).padStart(2, '0');
export const hour = (ms) => new Date(ms).toTimeString().slice(0, 8);
const clock = (ms) => { const d = new Date(ms); return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${hour(ms)}`; };
let skew = 0;
/** The server's clock, as far as this browser knows it. */
export const now = () => Date.now() + skew;
export const setSkew = (ms) => { skew = Math.abs(ms) < 1500 ? 0 : ms; };
const ago = (ms) => { const s = (now() - ms) / 1000; return s < 1 ? 'now' : `${span(s)} ago`; };

/** A moment: relative, and absolute on hover. */
export function when(time) {
  if (time == null) return h('span', { class: 'muted' }, '–');
  const ms = typeof time === 'number' ? time : Date.parse(time);
  const element = h('time', { datetime: new Date(ms).toISOString(), title: clock(ms), class: 'word' }, ago(ms));
  element.ms = ms;
  return element;
}
/** A moment below another cell, where its own column does not fit. */
export const narrow = (time) => h('div', { class: 'narrow small muted' }, when(time));
setInterval(() => {
  for (const element of document.getElementsByTagName('time')) {
    const text = element.ms && ago(element.ms);
    if (text && element.textContent !== text) element.textContent = text;
  }
}, 1000);

const KINDS = {
  online: 'ok', up: 'ok', ok: 'ok', ready: 'ok', done: 'ok', reachable: 'ok', answered: 'ok',
  working: 'warn', queued: 'warn', sent: 'warn', running: 'warn', paused: 'warn', starting: 'warn', degraded: 'warn', busy: 'warn',
  failed: 'bad', lost: 'bad', unanswered: 'bad', 'no-book': 'bad', away: 'bad', down: 'bad', unreachable: 'bad', error: 'bad', refused: 'bad',
};
export const kind = (state) => KINDS[state] ?? 'off';
/** A state: its word, and a mark whose form differs too. */
export const tag = (state, word = state) => h('span', { class: `tag ${kind(state)}` }, mark(kind(state)), word);
export const mark = (of) => h('span', { class: `dot ${of === 'ok' ? '' : of}`, 'aria-hidden': 'true' });

/** A bar of shares: `[class, count]` each. */
export function bar(parts, label) {
  const total = parts.reduce((sum, [, n]) => sum + n, 0) || 1;
  const element = h('div', { class: 'bar', role: 'img', 'aria-label': label, title: label });
  for (const [name, n] of parts) {
    if (!n) continue;
    const part = h('i', { class: name });
    part.style.width = `${Math.max(n / total * 100, 1.5)}%`;
    element.append(part);
  }
  return element;
}

/** The address of a view. */
export function to(path, parameters = {}) {
  const query = Object.entries(parameters).filter(([, value]) => value)
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&');
  return `#/${path.map(encodeURIComponent).join('/')}${query ? `?${query}` : ''}`;
}
export const hostLink = (id) => h('a', { href: to(['host', id]), class: 'mono' }, id);

/** A table with a head; columns are `[title, class]`. */
export function table(label, columns) {
  const body = h('tbody');
  const head = columns.map(([title, name]) => h('th', { scope: 'col', class: name }, title));
  return [h('table', { 'aria-label': label }, h('thead', null, h('tr', null, head)), body), body];
}

/** Hosts as a short text: `web-[1-12,15],lb`. */
export function fold(hosts) {
  const families = new Map(), single = [];
  for (const host of hosts) {
    const found = /^(\d+\.\d+\.\d+\.|[^.:]*?)(\d{1,15})((?:\.[^:]*)?)$/.exec(host);
    if (!found) { single.push(host); continue; }
    const [, prefix, digits, suffix] = found;
    const width = digits.length > 1 && digits[0] === '0' ? digits.length : 0;
    const key = `${prefix}[${width}]${suffix}`;
    if (!families.has(key)) families.set(key, { prefix, suffix, width, numbers: [] });
    families.get(key).numbers.push(+digits);
  }
  const parts = [];
  for (const { prefix, suffix, width, numbers } of families.values()) {
    const spans = [];
    for (const n of numbers.sort((a, b) => a - b)) {
      const last = spans.at(-1);
      if (last && n <= last[1] + 1) last[1] = n;
      else spans.push([n, n]);
    }
    const text = (n) => String(n).padStart(width, '0');
    const inner = spans.map(([a, b]) => a === b ? text(a) : `${text(a)}-${text(b)}`).join(',');
    parts.push(spans.length === 1 && spans[0][0] === spans[0][1] ? `${prefix}${inner}${suffix}` : `${prefix}[${inner}]${suffix}`);
  }
  return [...parts, ...single.sort()].join(',');
}

/** Length of a slice. On a busy machine it takes a multiple. */
const SLICE_MS = 8;
let since = performance.now();
/** Gives the browser a turn if this one has become long, so that no long task arises. */
export async function pause() {
  if (performance.now() - since < SLICE_MS) return;
  await new Promise((done) => { const c = new MessageChannel(); c.port1.onmessage = done; c.port2.postMessage(0); });
  since = performance.now();
}
export const begin = () => { since = performance.now(); };

/** Sorts numbers by `compare` in slices of a turn; `null` if `stop` says so. */
export async function sorted(order, compare, stop) {
  const RUN = 256;
  for (let at = 0; at < order.length; at += RUN) {
    order.subarray(at, at + RUN).sort(compare);
    await pause();
    if (stop()) return null;
  }
  let from = order, into = new Uint32Array(order.length);
  for (let width = RUN; width < order.length; width *= 2) {
    for (let at = 0; at < order.length; at += 2 * width) {
      const middle = Math.min(at + width, order.length), end = Math.min(at + 2 * width, order.length);
      let left = at, right = middle;
      for (let k = at; k < end; k++) {
        into[k] = left < middle && (right >= end || compare(from[left], from[right]) <= 0) ? from[left++] : from[right++];
        if ((k & 511) === 0) { await pause(); if (stop()) return null; }
      }
    }
    [from, into] = [into, from];
  }
  return from;
}
