// Hosts: a list of any length, of which only the visible rows exist; and one host.
import { begin, count, h, hostLink, mark, pause, plural, safe, show, sorted, span, table, tag, to, when } from './dom.js';
import { HOSTS_MAX, ask, has, live, refresh, reload, want } from './live.js';
import { eventText, groupName, isTelling } from './overview.js';

const ROW = 36;
/** Time after which a list that is not scrolled rests. */
const REST_MS = 400;
const COLUMNS = [['id', 'Host', ''], ['state', 'State', ''], ['silence', 'Silent for', 'num'], ['group', 'Network', 'wide']];

/** A field for a target, with completion. Calls `changed` when the text has come to rest. */
export function targetField({ value = '', label = 'Target', placeholder = 'web-*, dc=fra, 10.0.1.0/24, !web-9', changed, options = () => [] }) {
  const list = h('datalist', { id: `options-${++fields}` });
  const input = h('input', { type: 'search', value, placeholder, list: list.id, autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off', 'aria-describedby': `said-${fields}`, class: 'mono' });
  const said = h('div', { class: 'said', id: `said-${fields}`, role: 'status' });
  let timer = 0;
  const complete = () => {
    const cut = input.value.lastIndexOf(',') + 1, before = input.value.slice(0, cut), term = input.value.slice(cut).replace(/^[ !]*/, '');
    const found = options(term).slice(0, 12).map((name) => before + input.value.slice(cut, input.value.length - term.length) + name);
    show(list, found.join('\n'), found.map((text) => h('option', { value: text })));
  };
  const offer = () => {
    complete();
    fetchLabels(input.value.slice(input.value.lastIndexOf(',') + 1).replace(/^[ !]*/, '')).then(complete);
  };
  const rest = () => { clearTimeout(timer); timer = 0; changed(input.value.trim()); };
  input.addEventListener('input', () => { offer(); clearTimeout(timer); timer = setTimeout(rest, 250); });
  input.addEventListener('change', () => { if (timer) rest(); });
  input.addEventListener('focus', offer);
  return {
    element: h('label', { class: 'grow' }, h('span', { class: 'label' }, label), input, list), input, said,
    say: (text, bad = false) => { said.className = `said ${bad ? 'bad' : ''}`; said.textContent = safe(text); input.setAttribute('aria-invalid', bad); },
  };
}
let fields = 0;

/** Values of labels by key: those of some hosts, and all frequent ones of a key that has been typed. */
const labels = new Map();
const MINUTE_MS = 60000;
let sampledAt = 0;
function noteLabel(key, value) {
  if (!labels.has(key)) labels.set(key, new Set());
  if (labels.get(key).size < 200) labels.get(key).add(value);
}
/** Fetches labels that may complete `term`, at most once a minute. */
async function fetchLabels(term) {
  if (live.phase !== 'live') return;
  try {
    if (Date.now() - sampledAt > MINUTE_MS) {
      sampledAt = Date.now();
      for (const host of (await ask('v1/hosts?limit=200')).hosts) for (const [key, value] of Object.entries(host.labels ?? {})) noteLabel(key, value);
    }
    const [, key] = /^([^=!\s]+)=/.exec(term) ?? [];
    if (!labels.has(key) || Date.now() - (labels.get(key).askedAt ?? 0) < MINUTE_MS) return;
    labels.get(key).askedAt = Date.now();
    for (const { name } of (await ask(`v1/summary?by=${encodeURIComponent(`label:${key}`)}`)).groups) if (name) noteLabel(key, name);
  } catch { /* no completion */ }
}

/** Names that may complete a term: labels, groups and hosts that begin with it, the shortest first. */
export function completions(term) {
  const names = new Set(), { fleet, summary } = live;
  const [, key] = /^([^=!\s]+)=/.exec(term) ?? [];
  for (const value of labels.get(key) ?? []) if (`${key}=${value}`.startsWith(term) && `${key}=${value}` !== term) names.add(`${key}=${value}`);
  for (const name of labels.keys()) if (name.startsWith(term)) names.add(`${name}=`);
  for (const name of ['all', ...(fleet?.groups[0] ?? summary?.groups.map((group) => group.name) ?? [])]) if (name && name.startsWith(term) && name !== term) names.add(name);
  for (let i = 0; fleet && i < fleet.length && names.size < 24; i++) if (fleet.id[i].startsWith(term) && fleet.id[i] !== term) names.add(fleet.id[i]);
  return [...names];
}

/** Keys that sort hosts in natural order: `web-9` before `web-10`. */
export async function natural(fleet) {
  if (fleet.keys) return fleet.keys;
  const made = [];
  begin();
  for (let i = 0; i < fleet.length; i++) {
    made.push(fleet.id[i].replace(/\d+/g, (digits) => digits.padStart(12, '0')));
    if ((i & 255) === 0) await pause();
  }
  return (fleet.keys = made);
}

export function hosts({ root, query, on, set, signal }) {
  let target = query.get('target') ?? '', only = query.get('state') ?? '', sort = query.get('sort') ?? 'id', down = query.get('down') === '1';
  let order = new Uint32Array(0), keys = [], cursor = 0, number = 0, ready = false;
  const remember = () => set({ target, state: only, sort: sort === 'id' ? '' : sort, down: down && '1' });

  const field = targetField({ value: target, changed: (text) => { if (text === target) return; target = text; remember(); ask_(); }, options: completions });
  const select = h('select', { 'aria-label': 'State' }, [['', 'Every state'], ['online', 'Online'], ['offline', 'Offline']].map(([value, name]) => h('option', { value }, name)));
  select.value = only;
  select.addEventListener('change', () => { only = select.value; remember(); arrange(); });
  const act = h('a', { class: 'button', href: to(['dispatch']) }, 'Dispatch to these');

  const heads = COLUMNS.map(([key, name, style]) => {
    const button = h('button', { type: 'button', class: 'sort', onclick: () => { if (sort === key) down = !down; else [sort, down] = [key, key === 'silence']; remember(); arrange(); } }, name, h('span', { 'aria-hidden': 'true' }));
    return h('th', { scope: 'col', role: 'columnheader', class: style }, button);
  });
  // Rows have fixed places, so a scrolled row changes the layout of no other. Such a table needs its roles by name.
  const body = h('tbody', { role: 'rowgroup' });
  const grid = h('table', { role: 'table', 'aria-label': 'Hosts' }, h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, heads)), body);
  const box = h('div', { class: 'card grid', tabindex: 0, 'data-arrows': '', role: 'group', 'aria-label': 'Hosts: the arrow keys move, Enter opens' }, grid);
  const none = h('div', { class: 'card' });
  none.hidden = true;
  show(root, null, h('div', { class: 'head' }, h('h1', null, 'Hosts'), act), h('div', { class: 'tools' }, field.element, h('label', null, h('span', { class: 'label' }, 'State'), select)), field.said, box, none);

  /** Rows by their place modulo the length: scrolling by one row fills one row. */
  let pool = [];
  function rowElement() {
    const link = h('a', { class: 'mono' }), tag_ = h('span', { class: 'tag' }), dot = mark('ok'), word = h('span'), why = h('span', { class: 'wide' });
    tag_.append(dot, h('span', null, word, why));
    const cell = (style, child) => h('td', { role: 'cell', class: style }, child), silence = cell('num'), group = cell('wide mono');
    const row = h('tr', { role: 'row' }, cell('', link), cell('', tag_), silence, group);
    row.addEventListener('click', (event) => { if (!event.target.closest('a')) location.hash = link.getAttribute('href'); });
    return { row, link, tag_, dot, word, why, silence, group, shown: {} };
  }
  /** Changes what differs from what the row shows. */
  function put(parts, name, value, change) {
    if (parts.shown[name] === value) return;
    parts.shown[name] = value;
    change(value);
  }
  const text = (parts, name, value) => put(parts, name, value, () => { parts[name].textContent = value; });
  function fillRow(parts, at, fleet) {
    const i = order[at], online = fleet.isOnline(i), reason = fleet.states[fleet.state[i]], silence = fleet.silenceOf(i);
    put(parts, 'at', at, () => { parts.row.style.transform = `translateY(${at * ROW}px)`; parts.row.setAttribute('aria-rowindex', at + 2); });
    put(parts, 'id', fleet.id[i], (id) => {
      parts.link.setAttribute('href', to(['host', id]));
      parts.link.textContent = parts.link.title = safe(id);
    });
    text(parts, 'group', safe(groupName(fleet.groups[0][fleet.group[0][i]] ?? '')));
    put(parts, 'online', online, () => {
      parts.tag_.className = `tag ${online ? 'ok' : 'off'}`;
      parts.dot.className = `dot ${online ? '' : 'off'}`;
    });
    text(parts, 'word', online ? 'online' : 'offline');
    text(parts, 'why', online || reason === 'offline' ? '' : `, ${reason}`);
    text(parts, 'silence', silence === null ? '–' : span(silence));
    put(parts, 'current', at === cursor && document.activeElement === box, (current) => parts.row.classList.toggle('cur', current));
  }

  let drawing = false, resting = 0, first = 0;
  const draw = () => { if (!drawing) { drawing = true; requestAnimationFrame(() => { drawing = false; paint(); }); } };
  function paint() {
    const { fleet } = live;
    if (!fleet || !ready) return;
    const fits = Math.ceil(box.clientHeight / ROW) + 8, rows = Math.min(fits, order.length);
    first = Math.max(0, Math.min(order.length - rows, Math.floor(box.scrollTop / ROW) - 4));
    if (pool.length !== rows) {
      while (pool.length < rows) pool.push(rowElement());
      pool.length = rows;
      body.replaceChildren(...pool.map((parts) => parts.row));
    }
    for (let at = first; at < first + rows; at++) fillRow(pool[at % rows], at, fleet);
    clearTimeout(resting);
    resting = setTimeout(rest, REST_MS);
  }
  /** Puts the rows into their order once the list rests: for the tab key, and for a screen reader. */
  function rest() {
    const focused = document.activeElement;
    let next = null;
    for (let at = first + pool.length - 1; at >= first; at--) {
      const { row } = pool[at % pool.length];
      if (row.nextSibling !== next) body.insertBefore(row, next);
      next = row;
    }
    if (focused !== document.activeElement && body.contains(focused)) focused.focus({ preventScroll: true });
  }

  /** Filters and sorts. What is shown stays until the new order is there. */
  async function arrange() {
    const mine = ++number, { fleet } = live;
    heads.forEach((head, k) => {
      const [key] = COLUMNS[k];
      head.setAttribute('aria-sort', key !== sort ? 'none' : down ? 'descending' : 'ascending');
      head.querySelector('span').textContent = key !== sort ? '' : down ? '↓' : '↑';
    });
    act.href = to(['dispatch'], { target });
    if (!fleet) return;
    keys = await natural(fleet);
    const chosen = new Uint32Array(fleet.length);
    let n = 0;
    begin();
    for (let i = 0; i < fleet.length; i++) {
      if (!only || (only === 'online') === fleet.isOnline(i)) chosen[n++] = i;
      if ((i & 4095) === 0) { await pause(); if (mine !== number || signal.aborted) return; }
    }
    const byName = (a, b) => (keys[a] < keys[b] ? -1 : keys[a] > keys[b] ? 1 : 0), sign = down ? -1 : 1;
    const column = { state: fleet.state, group: fleet.group[0] };
    const first = sort === 'id' ? byName : sort === 'silence' ? (a, b) => fleet.silenceOf(a) - fleet.silenceOf(b) : (a, b) => column[sort][a] - column[sort][b];
    begin();
    const done = await sorted(chosen.subarray(0, n), (a, b) => sign * first(a, b) || byName(a, b), () => mine !== number || signal.aborted);
    if (!done) return;
    [order, ready] = [done, true];
    cursor = Math.min(cursor, Math.max(0, n - 1));
    grid.setAttribute('aria-rowcount', n + 1);
    const more = fleet.partial ? ` The first ${count(HOSTS_MAX)} hosts are shown: a target selects fewer.` : '';
    field.say(n === fleet.length ? `${plural(n, 'host')}.${more}` : `${count(n)} of ${plural(fleet.length, 'host')}.${more}`);
    body.style.height = `${n * ROW}px`;
    box.style.setProperty('--rows', n);
    box.hidden = n === 0;
    none.hidden = n !== 0;
    if (n === 0) show(none, `${target} ${only}`, h('p', { class: 'empty' }, target || only ? `No host ${only ? `is ${only}` : 'matches'}${target ? ' among those of the target' : ''}.` : ['No host has connected yet. ', h('code', null, 'anthill agent --server SERVER --id web-1'), ' starts one.']));
    paint();
  }

  function ask_() {
    field.say('Fetching the hosts …');
    want(target, 'net24');
    if (live.fleet) arrange();
  }
  function move(to_) {
    cursor = Math.max(0, Math.min(order.length - 1, to_));
    const top = cursor * ROW, seen = box.clientHeight - ROW - 40;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top > box.scrollTop + seen) box.scrollTop = top - seen;
    paint();
  }
  box.addEventListener('keydown', (event) => {
    const page = Math.floor(box.clientHeight / ROW) - 2;
    const steps = { ArrowDown: cursor + 1, ArrowUp: cursor - 1, PageDown: cursor + page, PageUp: cursor - page, Home: 0, End: order.length - 1 };
    if (event.target === box && event.key in steps) { event.preventDefault(); move(steps[event.key]); }
    else if (event.target === box && event.key === 'Enter' && order.length) location.hash = to(['host', live.fleet.id[order[cursor]]]);
  });
  field.input.addEventListener('keydown', (event) => { if (event.key === 'ArrowDown' && field.input.value === target) { event.preventDefault(); box.focus(); } });
  box.addEventListener('scroll', draw, { passive: true });
  box.addEventListener('focus', draw);
  box.addEventListener('blur', draw);
  window.addEventListener('resize', draw, { signal });
  on('fleet-part', ({ detail }) => { if (!live.fleet) field.say(`${count(detail)} hosts so far …`); });
  on('fleet', arrange);
  on('rows', () => { if (only || sort !== 'id') later(); else draw(); });
  on('fleet-problem', ({ detail }) => { field.say(detail.message, true); box.hidden = true; none.hidden = true; });
  let timer = 0;
  const later = () => { draw(); timer ||= setTimeout(() => { timer = 0; if (!signal.aborted) arrange(); }, 1000); };
  const tick = setInterval(draw, 1000);
  signal.addEventListener('abort', () => { clearInterval(tick); clearTimeout(timer); clearTimeout(resting); });
  arrange();
  ask_();
  if (query.get('focus')) { remember(); field.input.focus(); }
  return {
    query: (next) => {
      const text = next.get('target') ?? '';
      only = select.value = next.get('state') ?? '';
      if (next.get('focus')) field.input.focus();
      if (text !== target) { target = field.input.value = text; ask_(); } else arrange();
    },
  };
}

export function host({ root, rest, on, signal }) {
  const id = rest[0] ?? '';
  const facts = h('div', { class: 'card' }), labels = h('div', { class: 'card' }), past = h('div', { class: 'card' });
  const [recent, rows] = table('Last events of the host', [['When'], ['What']]);
  const acts = h('div', { class: 'row' });
  const body = h('div', { class: 'stack' });
  show(root, null, h('div', { class: 'head' }, h('h1', { class: 'mono' }, id), acts), body);
  const fact = (name, value) => value == null || value === '' ? null : [h('dt', null, name), h('dd', null, value)];

  async function fetchAll() {
    let view;
    try {
      view = await ask(`v1/hosts/${encodeURIComponent(id)}`, { signal });
    } catch (error) {
      if (signal.aborted || error.status === 0 || error.status === 401) return;
      return show(body, `no ${error.message}`, h('div', { class: 'card' }, h('h2', null, error.status === 404 ? 'No host of this name is known' : 'The host cannot be shown'), h('p', { class: 'muted' }, error.status === 404 ? 'It has never connected, or it was forgotten.' : error.message), h('a', { href: to(['hosts']) }, 'All hosts')));
    }
    let history, events;
    try {
      [history, events] = await Promise.all([has('/v1/hosts/HOST/history') ? ask(`v1/hosts/${encodeURIComponent(id)}/history`, { signal }) : null, ask('v1/events/recent?limit=1024', { signal })]);
    } catch { return; }
    if (signal.aborted) return;
    show(body, 'host', () => [h('div', { class: 'columns' }, facts, labels), past, h('section', { class: 'card' }, h('h2', null, 'Last events and tasks'), recent)]);
    show(facts, JSON.stringify(view) + live.phase, h('h2', null, 'Facts'), h('dl', { class: 'facts' },
      fact('State', tag(view.state, view.reason ? `${view.state}, ${view.reason}` : view.state)),
      fact(view.state === 'online' ? 'Online since' : 'Offline since', when(view.since)), fact('Last message', when(view.last_seen)),
      fact('Address', view.ip && h('span', { class: 'mono' }, view.ip)), fact('Host name', view.hostname), fact('MAC', view.mac && h('span', { class: 'mono' }, view.mac)),
      fact('IPv4', view.ipv4?.length ? h('span', { class: 'mono' }, view.ipv4.join(', ')) : null), fact('Node', view.node)));
    const named = Object.entries(view.labels ?? {});
    show(labels, JSON.stringify([view.labels, view.label_sources]), h('h2', null, 'Labels'), named.length
      ? h('dl', { class: 'facts' }, named.map(([key, value]) => fact(key, [h('a', { href: to(['hosts'], { target: `${key}=${value}` }) }, value), h('span', { class: 'muted' }, view.label_sources?.[key] ? ` (${view.label_sources[key] === 'host' ? 'claimed by the host' : view.label_sources[key]})` : '')])))
      : h('p', { class: 'empty' }, 'None. ', h('code', null, `anthill label ${id} role=web`), ' sets one.'));
    // Where the server was away, nothing is known: such spans stand among the changes.
    const turns = [...(history?.transitions ?? []), ...(history?.away ?? []).map(({ from, to }) => ({ at: from, to, state: 'away' }))]
      .sort((x, y) => new Date(y.at) - new Date(x.at));
    past.hidden = !turns.length;
    show(past, JSON.stringify(turns), () => [h('h2', null, 'History'), h('table', { 'aria-label': 'History' }, h('tbody', null, turns.map((turn) => h('tr', null,
      h('td', { class: 'tight' }, when(turn.at)), h('td', null, turn.state === 'away' ? h('span', { class: 'tag warn' }, mark('warn'), 'the server was away', turn.to ? [' for ', span((new Date(turn.to) - new Date(turn.at)) / 1000)] : '')
        : tag(turn.state, turn.reason ? `${turn.state}, ${turn.reason}` : turn.state))))))]);
    const own = (events?.events ?? []).filter((event) => event.host === id && isTelling(event)).reverse().slice(0, 50);
    show(rows, JSON.stringify(own.map((event) => event.seq)), own.length ? own.map((event) => h('tr', null, h('td', { class: 'tight' }, when(event.at)), h('td', null, eventText(event)))) : h('tr', null, h('td', { class: 'muted' }, 'None since the server started.')));
    show(acts, view.state, h('a', { class: 'button', href: to(['dispatch'], { target: id }) }, 'Dispatch to it'),
      view.state === 'offline' ? h('button', { type: 'button', class: 'danger', onclick: forget }, 'Forget the host') : null);
  }

  function forget() {
    const said = h('p', { class: 'said bad', role: 'status' });
    const dialog = h('dialog', { 'aria-label': 'Forget the host' }, h('h2', null, 'Forget ', h('span', { class: 'mono' }, id), '?'), h('p', null, 'Everything that is stored of it is deleted. It is known again when it connects.'), said,
      h('div', { class: 'row' }, h('button', { type: 'button', class: 'danger', onclick: async () => {
        try { await ask(`v1/hosts/${encodeURIComponent(id)}`, { method: 'DELETE' }); } catch (error) { said.textContent = safe(error.message); return; }
        dialog.close();
        refresh();
        reload(0);
        location.hash = to(['hosts']);
      } }, 'Forget it'), h('button', { type: 'button', autofocus: true, onclick: () => dialog.close() }, 'Keep it')));
    dialog.addEventListener('close', () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }

  let timer = 0;
  on('fresh', fetchAll);
  on('events', ({ detail }) => { if (detail.some((event) => event.host === id) && !timer) timer = setTimeout(() => { timer = 0; if (!signal.aborted) fetchAll(); }, 300); });
  const tick = setInterval(() => { if (live.phase === 'live' && !document.hidden) fetchAll(); }, 5000);
  signal.addEventListener('abort', () => clearInterval(tick));
  if (live.phase === 'live') fetchAll();
  return { title: safe(id) };
}
