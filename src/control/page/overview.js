// Overview: how many hosts are online, what has been lost, and what is under way.
import { bar, count, h, hostLink, keyed, now, plural, show, span, svg, table, tag, to, when } from './dom.js';
import { ask, has, live } from './live.js';

const REASONS = { closed: 'it closed its connection', reset: 'its connection broke', timeout: 'it was silent for too long', abnormal: 'it sent invalid data', lost: 'it did not return after a restart', unknown: 'since before this server started' };
const EVENTS_SHOWN = 12;
/** Networks that are listed, those with the most offline hosts first; the map has all. */
const NETWORKS_SHOWN = 15;
/** Age of the list of nodes after which it is fetched again. */
const NODES_MS = 4000;

/** The target of a group of `by`. */
export function groupTarget(by, name) {
  if (by === 'net24') return name;
  if (by === 'node') return `sys.node=${name}`;
  const key = by.replace(/^label:/, '');
  return name === '' ? `${key}!=*` : `${key}=${name}`;
}
export const groupName = (name) => (name === '' ? '(none)' : name);

function tile(label, value, note, word) {
  return h('div', { class: 'card tile' }, h('div', { class: 'label' }, label), h('div', { class: `value ${word ? 'word' : ''}` }, value), h('div', { class: 'note' }, note));
}

/** A curve of `[ms, online]`, with the spans in which nothing is known. */
function spark(points, gaps) {
  const [from, until] = [points[0][0], points.at(-1)[0]];
  const high = points.reduce((most, [, n]) => Math.max(most, n ?? 0), 1);
  const known = points.map(([, n]) => n).filter((n) => n != null);
  const low = known.reduce((least, n) => Math.min(least, n), high), floor = Math.max(0, low - (high - low || high) * .25);
  const x = (ms) => (ms - from) / (until - from || 1) * 1000, y = (n) => 68 - (n - floor) / (high - floor || 1) * 60;
  const runs = [[]];
  for (const [ms, n] of points) { if (n == null) runs.push([]); else runs.at(-1).push(`${x(ms).toFixed(1)},${y(n).toFixed(1)}`); }
  const lines = runs.filter((run) => run.length > 1);
  return svg('svg', { class: 'spark', viewBox: '0 0 1000 72', preserveAspectRatio: 'none', role: 'img', 'aria-label': `Hosts online: now ${count(points.at(-1)[1])}, at least ${count(low)}, at most ${count(high)}` },
    gaps.map(([a, b]) => svg('rect', { class: 'away', x: x(a), y: 0, width: Math.max(2, x(b) - x(a)), height: 72 })),
    lines.map((run) => svg('polygon', { class: 'area', points: `${run[0].split(',')[0]},72 ${run.join(' ')} ${run.at(-1).split(',')[0]},72` })),
    lines.map((run) => svg('polyline', { class: 'line', points: run.join(' ') })));
}

/**
 * Returns whether an event is worth a line: those on the way to a result are not, nor the record of an order
 * whose task has an event of its own.
 */
export const isTelling = (event) => event.event !== 'answer' && !(event.event === 'progress' && event.state === 'working')
  && !(event.event === 'audit' && event.what.endsWith('/v1/tasks') && event.result === 'ok');

/** The newest events first, at most `most`. Records of the same kind are one line, with their number. */
export function newest(events, most) {
  const lines = [], records = new Map();
  for (const event of events) {
    const kind_ = event.event === 'audit' ? JSON.stringify([event.by, event.what, event.result]) : null;
    const line = records.get(kind_);
    if (line) { line.times += event.times ?? 1; continue; }
    if (lines.length >= most) continue;
    const next = kind_ ? { ...event, times: event.times ?? 1 } : event;
    if (kind_) records.set(kind_, next);
    lines.push(next);
  }
  return lines;
}

/** What an event says, as children of a cell. */
export function eventText(event) {
  // The key of a console command is its id, and names no task.
  const isCommand = /^[0-9a-f]{32}$/.test(event.key ?? '');
  const task = event.key && (isCommand ? h('span', { class: 'mono' }, event.key)
    : h('a', { href: to(['task', event.key]), class: 'mono' }, event.key));
  const who = event.host && hostLink(event.host);
  switch (event.event) {
    case 'online': return [who, ' is online'];
    case 'offline': return [who, ' is offline: ', REASONS[event.reason] ?? event.reason];
    case 'mass-offline': return [plural(event.count, 'host'), ' went offline at once'];
    case 'dispatch': return ['Task ', task, ' went to ', plural(event.count, 'host')];
    case 'answer': return [who, ' answered ', task];
    case 'progress': return [who, ': ', event.state, ' in ', task];
    case 'result': return [who, ' has finished ', h('code', null, event.command), ' of ', task];
    case 'audit': return [event.by, ': ', event.what, task && [' ', task], event.target ? [' to ', h('span', { class: 'mono' }, event.target)] : '', event.count != null ? `, ${plural(event.count, 'host')}` : '', event.result === 'ok' ? '' : `: ${event.result}`, event.times > 1 ? h('span', { class: 'muted' }, ` (${count(event.times)} times)`) : ''];
    case 'quarantine': return [who, ' is in quarantine: ', event.reason];
    case 'duplicate-id': return [who, ' is the id of two hosts: ', event.reason];
    case 'new-ids': return [plural(event.count, 'new host'), ' came for less than a timeout'];
    case 'unknown-keys': return [plural(event.count, 'report'), ' named tasks that were never stored'];
    case 'device': return ['Device ', event.host, ': ', event.state, event.reason ? ` (${event.reason})` : ''];
    case 'reach': return ['Target ', event.host, ': ', event.state];
    default: return [event.event, event.host ? ': ' : '', who, event.reason ? ` (${event.reason})` : '', event.count ? ` ${count(event.count)}` : ''];
  }
}

export function overview({ root, on, signal }) {
  const tiles = h('div', { class: 'tiles' });
  const curve = h('section', { class: 'card', 'aria-label': 'Hosts online over time' });
  const [groups, groupRows] = table('Networks', [['Network'], ['', 'wide'], ['Online', 'num'], ['Offline', 'num']]);
  const [silent, silentRows] = table('Longest silence', [['Host'], ['Silent for', 'num']]);
  const [recent, recentRows] = table('Last events', [['When'], ['What']]);
  const body = h('div', { class: 'stack' });
  show(root, null, h('div', { class: 'head' }, h('h1', null, 'Overview')), body);
  let open = null, history = null, nodes = null, nodesAt = 0, events = [];

  const start = h('div', { class: 'card start' }, h('h2', null, 'No host has connected yet'),
    h('p', null, 'Start an agent on a host, and it appears here at once:'),
    h('pre', null, 'anthill agent --server SERVER --id web-1 --push --allow allow.json'),
    h('p', { class: 'muted' }, 'A thousand hosts for a trial: ', h('code', null, 'anthill bench --hosts 1000 --seconds 600')));

  function draw() {
    const { summary, health } = live;
    if (!summary) return show(body, 'waiting', h('p', { class: 'empty' }, live.phase === 'away' ? 'Nothing is known yet.' : 'Asking the server …'));
    if (summary.hosts === 0) show(body, 'none', tiles, start);
    else show(body, 'some', tiles, curve, () => h('div', { class: 'columns' },
      h('section', { class: 'card' }, h('h2', null, 'Networks'), groups),
      h('section', { class: 'card' }, h('h2', null, 'Longest silence'), silent, h('p', { class: 'small muted' }, `A host goes offline after ${span(summary.timeout_s)} of silence.`)),
      h('section', { class: 'card' }, h('h2', null, 'Last events'), recent)));
    const offline = summary.hosts - summary.online;
    const reasons = Object.entries(summary.offline).filter(([, n]) => n).sort((a, b) => b[1] - a[1]);
    const share = summary.hosts ? Math.floor(summary.online / summary.hosts * 1000) / 10 : 0;
    show(tiles, JSON.stringify([summary.online, summary.hosts, summary.offline, summary.lost_1h, open, health?.store, health?.status, nodes, span(health?.uptime_s ?? 0), live.phase]),
      tile('Online', [h('span', { class: `dot ${summary.online ? '' : 'off'}`, 'aria-hidden': 'true' }), count(summary.online)], summary.hosts ? `${share} % of ${plural(summary.hosts, 'host')}` : 'no host known'),
      tile('Offline', offline ? h('a', { href: to(['hosts'], { state: 'offline' }) }, count(offline)) : '0', reasons.map(([reason, n]) => h('div', { title: REASONS[reason] }, `${count(n)} ${reason}`))),
      tile('Lost in the last hour', count(summary.lost_1h), 'and still offline'),
      tile('Open tasks', open ? h('a', { href: to(['tasks']) }, count(open)) : count(open), 'with a host that has not finished'),
      tile('Store', tag(health?.store ?? '–'), health?.status === 'ok' ? 'answers' : 'hosts are served meanwhile', true),
      nodes?.length > 1 ? tile('Nodes', count(nodes.length), nodes.map((node) => h('div', { class: node.state === 'up' ? '' : 'bad-text' }, node.state === 'up' ? `${node.name}: ${plural(node.hosts ?? 0, 'host')}` : `${node.name} is ${node.state}`))) : tile('Nodes', count(nodes?.length ?? 1), `${nodes?.[0]?.name ?? 'this one'}, up for ${span(health?.uptime_s ?? 0)}, version ${health?.version ?? ''}`));
    // The history has a count for each minute; what this page has seen itself is finer, and comes behind it.
    const kept = history?.points.filter(([, n]) => n != null).length > 1;
    const points = kept ? [...history.points, ...live.samples.filter(([ms]) => ms > history.points.at(-1)[0])] : live.samples;
    const gaps = kept ? history.gaps.filter(([, until]) => until > points[0][0]).map(([a, b]) => [Math.max(a, points[0][0]), b]) : [];
    const length = points.length > 1 ? span((points.at(-1)[0] - points[0][0]) / 1000) : '';
    const known = points.map(([, n]) => n).filter((n) => n != null), [low, high] = [known.reduce((a, b) => Math.min(a, b), Infinity), known.reduce((a, b) => Math.max(a, b), 0)];
    const range = low === high ? count(high) : `${count(low)} to ${count(high)}`;
    show(curve, null, h('h2', null, 'Online', h('span', { class: 'small muted' }, length ? ` · last ${length} · ${range}` : ' · since this page was opened')),
      points.length > 1 ? spark(points, gaps) : h('div', { class: 'spark muted' }, 'The curve begins with the next summary.'),
      gaps.length ? h('ul', { class: 'legend' }, h('li', null, h('span', { class: 'swatch warn' }), 'the server was away')) : null);
    const affected = [...summary.groups].sort((a, b) => b.offline - a.offline), listed = affected.slice(0, NETWORKS_SHOWN);
    keyed(groupRows, listed, (g) => g.name, (g) => `${g.online} ${g.offline}`, (g) => h('tr', null,
      h('td', null, h('a', { href: to(['hosts'], { target: groupTarget(summary.by, g.name) }), class: 'mono' }, groupName(g.name))),
      h('td', { class: 'wide' }, bar([['ok', g.online], ['off', g.offline]], `${count(g.online)} online, ${count(g.offline)} offline`)),
      h('td', { class: 'num' }, count(g.online)), h('td', { class: 'num' }, count(g.offline))));
    const others = affected.slice(NETWORKS_SHOWN), more = others.length + (summary.rest?.groups ?? 0);
    const sum = (state) => others.reduce((all, group) => all + group[state], summary.rest?.[state] ?? 0);
    if (more) groupRows.append(h('tr', null, h('td', null, h('a', { href: to(['map']) }, plural(more, 'more network'))), h('td', { class: 'wide' }), h('td', { class: 'num' }, count(sum('online'))), h('td', { class: 'num' }, count(sum('offline')))));
    keyed(silentRows, summary.silent, (s) => s.id, (s) => s.silence_s, (s) => h('tr', null, h('td', null, hostLink(s.id)),
      h('td', { class: `num ${s.silence_s > summary.timeout_s * 2 / 3 ? 'bad-text' : ''}` }, span(s.silence_s))));
    if (!summary.silent.length) show(silentRows, 'none', h('tr', null, h('td', { colspan: 2, class: 'muted' }, 'No host is online.')));
  }

  function drawEvents() {
    if (!events.length) return show(recentRows, 'none', h('tr', null, h('td', { colspan: 2, class: 'muted' }, 'Nothing has happened since the start.')));
    keyed(recentRows, events, (e) => e.seq, (e) => e.times, (e) => h('tr', null, h('td', { class: 'tight' }, when(e.at)), h('td', null, eventText(e))));
  }

  async function fetchAll() {
    try {
      const [page, last] = await Promise.all([ask('v1/tasks?limit=1000', { signal }), ask('v1/events/recent?limit=256', { signal })]);
      open = page.tasks.filter((task) => isOpen(task.hosts)).length;
      events = newest(last.events.filter(isTelling).reverse(), EVENTS_SHOWN);
    } catch { /* the head says so */ }
    try {
      if (has('/v1/history')) history = curveOf(await ask('v1/history?minutes=1440', { signal }));
      await fetchNodes();
    } catch { /* the last ones stay */ }
    if (signal.aborted) return;
    draw();
    drawEvents();
  }

  /** The nodes: no event says that one of them is gone. */
  async function fetchNodes() {
    nodesAt = Date.now();
    if (has('/v1/nodes')) nodes = (await ask('v1/nodes', { signal })).nodes ?? null;
  }

  let later = 0;
  on('summary', () => {
    draw();
    if (nodes?.length > 1 && Date.now() - nodesAt > NODES_MS) fetchNodes().then(draw, () => { /* the last ones stay */ });
  });
  on('phase', draw);
  on('fresh', fetchAll);
  on('events', ({ detail }) => {
    if (detail.length) {
      events = newest([...detail.filter(isTelling).reverse(), ...events], EVENTS_SHOWN);
      drawEvents();
    }
    const busy = !detail.length || detail.some((event) => event.key);
    if (busy && !later) later = setTimeout(() => { later = 0; if (!signal.aborted) fetchAll(); }, 1000);
  });
  draw();
  if (live.phase === 'live') fetchAll();
}

const OPEN = ['queued', 'sent', 'answered', 'working', 'held'];
export const isOpen = (hosts) => OPEN.some((state) => hosts[state]);

/** Points and gaps of `/v1/history`: one count a minute, null where nothing is known, and the spans without a server. */
function curveOf(history) {
  const from = Date.parse(history.from), known = (n) => n != null;
  // Before the first count nothing is known, so the curve begins there. Behind the last one the page has its own.
  const first = history.online.findIndex(known), last = history.online.findLastIndex(known);
  return {
    points: first < 0 ? [] : history.online.map((n, i) => [from + i * history.step_s * 1000, n]).slice(first, last + 1),
    gaps: history.away.map(({ from: a, to }) => [Date.parse(a), to ? Date.parse(to) : now()]),
  };
}
