// The frame: the address of a view, the head, the token, the keyboard.
import { h, hour, now, plural, show, to } from './dom.js';
import { live, run, setToken, want } from './live.js';
import { overview } from './overview.js';
import { map } from './map.js';
import { host, hosts } from './hosts.js';
import { task, tasks } from './tasks.js';
import { dispatch } from './dispatch.js';
import { devices, targets } from './devices.js';

const VIEWS = { overview, map, hosts, host, tasks, task, dispatch, devices, targets };
const NAV = [['overview', 'Overview'], ['map', 'Map'], ['hosts', 'Hosts'], ['tasks', 'Tasks'], ['dispatch', 'Dispatch'], ['devices', 'Devices'], ['targets', 'Targets']];
const PARENT = { host: 'hosts', task: 'tasks' };

const main = document.getElementById('main');
const nav = document.getElementById('nav');
const state = document.getElementById('state');
const banner = document.getElementById('banner');
const spoken = document.getElementById('spoken');

/** The view of the address: `#/hosts?target=web-*`. */
function address() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  let [name, ...rest] = path.split('/').map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  if (!Object.hasOwn(VIEWS, name)) [name, rest] = ['overview', []];
  return { name, rest, query: new URLSearchParams(query) };
}

let view = null, viewSignal = null, shownPath = null, visits = 0;
function route() {
  const { name, rest, query } = address();
  const path = JSON.stringify([name, rest]);
  for (const link of nav.children) {
    const current = link.key === (PARENT[name] ?? name);
    if (current) link.setAttribute('aria-current', 'page'); else link.removeAttribute('aria-current');
  }
  if (live.phase === 'token') return;
  if (view && path === shownPath && view.query) return view.query(query);
  visits += 1;
  viewSignal?.abort();
  viewSignal = new AbortController();
  const arrived = shownPath !== null;
  shownPath = path;
  if (!['map', 'hosts'].includes(name)) want(null);
  const { signal } = viewSignal;
  view = VIEWS[name]({
    root: main, rest, query, signal,
    on: (event, listener) => live.addEventListener(event, listener, { signal }),
    /** Changes the parameters of the address without a new entry in the history. */
    set: (parameters) => {
      history.replaceState(null, '', to([name, ...rest], parameters));
    },
  }) ?? {};
  document.title = `${view.title ?? NAV.find(([key]) => key === name)?.[1]} · Anthill`;
  main.setAttribute('aria-label', document.title.replace(' · Anthill', ''));
  window.scrollTo(0, 0);
  if (view.focus) view.focus.focus();
  else if (arrived && !main.contains(document.activeElement)) main.focus({ preventScroll: true });
}

for (const [key, name] of NAV) {
  const link = h('a', { href: to([key]), 'data-name': name }, name);
  link.key = key;
  nav.append(link);
}

const PHASES = { starting: ['warn', 'Connecting'], live: ['', 'Live'], away: ['bad', 'No answer'], token: ['warn', 'Token needed'] };
function drawState() {
  const [mark, word] = PHASES[live.phase];
  const seen = live.at ? ` · as of ${hour(live.at)}` : '';
  show(state, word + seen, h('span', { class: `dot ${mark}`, 'aria-hidden': 'true' }), h('span', null, word, live.at ? ' · as of ' : '', live.at ? h('time', { datetime: new Date(live.at).toISOString() }, hour(live.at)) : ''));
}

let awaySince = 0;
function drawPhase() {
  drawState();
  const away = live.phase === 'away';
  document.body.classList.toggle('stale', live.phase !== 'live');
  if (away && !awaySince) awaySince = now();
  if (!away) awaySince = 0;
  const known = live.at ? ` All below is as of ${hour(live.at)}, and may have changed since.` : '';
  show(banner, away, away ? `The server does not answer since ${hour(awaySince)}. It is asked again every few seconds.${known}` : '');
  if (live.phase === 'token') return askToken();
  if (shownPath === 'token') { shownPath = null; view = null; route(); }
}

function askToken() {
  viewSignal?.abort();
  want(null);
  shownPath = 'token';
  const field = h('input', { type: 'password', id: 'token', autocomplete: 'current-password', required: true, spellcheck: 'false', 'aria-describedby': 'token-said' });
  const form = h('form', { class: 'card form start' },
    h('h1', null, 'This server asks for a token'),
    h('p', { class: 'said bad', id: 'token-said', role: 'status' }, live.why === '' ? '' : `The server says: ${live.why}`),
    h('input', { type: 'text', class: 'hidden', autocomplete: 'username', value: 'anthill', readonly: true, tabindex: -1, 'aria-hidden': 'true' }),
    h('label', { for: 'token' }, h('span', { class: 'label' }, 'Token'), field),
    h('div', null, h('button', { class: 'first', type: 'submit' }, 'Use the token')),
    h('p', { class: 'muted small' }, 'It is the content of the file that ', h('code', null, 'server.http_token_file'), ' names. This tab keeps it until it is closed, and sends it to no other server.'));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (!text) return field.focus();
    // A header has printable ASCII only; anything else is no token of any server.
    if (!/^[\x21-\x7e]+$/.test(text)) { form.querySelector('.said').textContent = 'A token has no spaces and only ASCII characters.'; return; }
    setToken(text);
  });
  main.replaceChildren(form);
  field.focus();
}

// Counts for a screen reader, seldom enough to be listened to.
let spokenAt = 0;
function speak() {
  const { summary } = live;
  if (!summary || Date.now() - spokenAt < 5000) return;
  const text = `${plural(summary.online, 'host')} online, ${summary.hosts - summary.online} offline`;
  if (spoken.textContent === text) return;
  spokenAt = Date.now();
  spoken.textContent = text;
}

const KEYS = [['/', 'Go to the search field'], ['1 … 7', 'Go to a view, in the order of the head'], ['↑ ↓ Home End', 'Move in a list or on the map'], ['Enter', 'Open the host, or the task'], ['Esc', 'Leave a field, or close this'], ['?', 'Show this']];
function help() {
  const dialog = h('dialog', { 'aria-label': 'Keyboard' }, h('h2', null, 'Keyboard'),
    h('table', null, h('tbody', null, KEYS.map(([key, text]) => h('tr', null, h('td', { class: 'tight' }, h('kbd', null, key)), h('td', null, text))))),
    h('p', null), h('button', { type: 'button', onclick: () => dialog.close() }, 'Close'));
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const field = event.target.closest('input, textarea, select');
  const parent = PARENT[address().name];
  // A browser would clear the field.
  if (event.key === 'Escape' && field) { event.preventDefault(); return field.blur(); }
  if (event.key === 'Escape' && parent && !document.querySelector('dialog')) {
    // Back to the list as it was, unless the page was opened here.
    if (visits > 1) history.back(); else location.hash = to([parent]);
    return;
  }
  if (field || live.phase === 'token' || document.querySelector('dialog')) return;
  if (event.key === '/') {
    event.preventDefault();
    const search = main.querySelector('input[type=search]');
    if (search) { search.focus(); search.select(); } else location.hash = to(['hosts'], { focus: 'search' });
  } else if (event.key.startsWith('Arrow') && [document.body, main].includes(event.target)) {
    // The list or the map takes the arrows.
    const moved = main.querySelector('[data-arrows]');
    if (moved?.checkVisibility()) { event.preventDefault(); moved.focus(); }
  } else if (event.key === '?') {
    help();
  } else if (/^[1-7]$/.test(event.key)) {
    location.hash = to([NAV[+event.key - 1][0]]);
  }
});
document.getElementById('skip').addEventListener('click', () => main.focus());

live.addEventListener('phase', drawPhase);
live.addEventListener('summary', () => { drawState(); speak(); });
window.addEventListener('hashchange', route);
// A shared link may have the target in its query.
const shared = new URLSearchParams(location.search).get('target');
if (shared && !location.hash) history.replaceState(null, '', location.pathname + to(['hosts'], { target: shared }));
drawPhase();
route();
run();
