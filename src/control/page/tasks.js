// Tasks: the list; and one task with its waves, states and outputs.
import { bar, block, count, h, hostLink, keyed, kind, narrow, plural, safe, show, span, table, tag, to, when } from './dom.js';
import { ask, has, live } from './live.js';
import { isOpen } from './overview.js';

const ORDER = ['done', 'working', 'answered', 'sent', 'queued', 'held', 'offline', 'unanswered', 'no-book', 'lost', 'failed', 'expired', 'cancelled'];
const states = (hosts) => ORDER.filter((state) => hosts[state]).map((state) => [state, hosts[state]]);
const total = (hosts) => Object.values(hosts).reduce((sum, n) => sum + n, 0);
const text = (hosts) => states(hosts).map(([state, n]) => `${count(n)} ${state}`).join(', ');
const shares = (hosts) => states(hosts).map(([state, n]) => [kind(state), n]);

export function tasks({ root, on, signal }) {
  const [list, rows] = table('Tasks', [['Key'], ['Created', 'wide'], ['', 'wide'], ['Hosts by state'], ['Hosts', 'num']]);
  const card = h('div', { class: 'card' }), more = h('button', { type: 'button' }, 'Older tasks');
  more.hidden = true;
  show(root, null, h('div', { class: 'head' }, h('h1', null, 'Tasks'), h('a', { class: 'button', href: to(['dispatch']) }, 'New task')), h('div', { class: 'stack' }, card, h('div', null, more)));
  let older = [], next = null;

  function draw(first) {
    const all = [...first, ...older.filter((old) => !first.some((task) => task.key === old.key))];
    more.hidden = !next;
    if (!all.length) return show(card, 'none', h('p', { class: 'empty' }, 'No task is open, and none has ended lately. ', h('a', { href: to(['dispatch']) }, 'Dispatch one'), ', or type ', h('code', null, "anthill run uptime 'web-*'"), '.'));
    show(card, 'list', list);
    keyed(rows, all, (task) => task.key, (task) => JSON.stringify(task), (task) => h('tr', null,
      h('td', null, h('a', { class: 'mono', href: to(['task', task.key]) }, task.key), narrow(task.created)), h('td', { class: 'tight wide' }, when(task.created)),
      h('td', { class: 'wide' }, bar(shares(task.hosts), text(task.hosts))),
      h('td', null, task.rollout && task.rollout.state !== 'done' ? [tag(task.rollout.state), ' '] : isOpen(task.hosts) ? [tag('running', 'open'), ' '] : null, text(task.hosts)), h('td', { class: 'num' }, count(total(task.hosts)))));
  }
  let first = [];
  async function fetchAll() {
    try {
      const page = await ask('v1/tasks?limit=200', { signal });
      first = page.tasks;
      if (!older.length) next = page.next;
      draw(first);
    } catch (error) { if (!signal.aborted && error.status >= 400 && error.status !== 401) show(card, error.message, h('p', { class: 'bad-text' }, error.message)); }
  }
  more.addEventListener('click', async () => {
    try {
      const page = await ask(`v1/tasks?limit=200&cursor=${next}`, { signal });
      older.push(...page.tasks);
      next = page.next;
      draw(first);
    } catch { /* the head says so */ }
  });
  soon({ on, signal, fetchAll, of: (event) => event.key });
}

/** Fetches at once, after an interruption, and at most once a second after an event that matters. */
function soon({ on, signal, fetchAll, of }) {
  let timer = 0;
  on('fresh', fetchAll);
  on('events', ({ detail }) => { if ((!detail.length || detail.some(of)) && !timer) timer = setTimeout(() => { timer = 0; if (!signal.aborted) fetchAll(); }, 800); });
  signal.addEventListener('abort', () => clearTimeout(timer));
  if (live.phase === 'live') fetchAll();
}

export function task({ root, rest, on, signal }) {
  const key = rest[0] ?? '', path = `v1/tasks/${encodeURIComponent(key)}`;
  const acts = h('div', { class: 'row' }), said = h('p', { class: 'said', role: 'status' });
  const body = h('div', { class: 'stack' }), facts = h('div', { class: 'card' }), outputs = h('section', { class: 'card' });
  const [list, rows] = table('Hosts of the task', [['Host'], ['State'], ['Commands']]);
  const more = h('button', { type: 'button' }, 'More hosts');
  const hostsCard = h('section', { class: 'card' }, h('h2', null, 'Hosts'), list, h('p', null), more);
  show(root, null, h('div', { class: 'head' }, h('h1', { class: 'mono' }, key), acts), said, body);
  let pages = 1, view = null;

  async function act(verb) {
    said.className = 'said';
    said.textContent = '…';
    try {
      const answer = await ask(`${path}/${verb}`, { method: 'POST', body: {} });
      said.textContent = safe(answer.cannot?.length ? `Done. These hosts cannot be stopped: ${[].concat(answer.cannot).join(', ')}` : 'Done.');
    } catch (error) {
      said.className = 'said bad';
      said.textContent = safe(error.message);
    }
    fetchAll();
  }

  async function fetchAll() {
    let summary, hosts = {}, next = null;
    try {
      let cursor = null;
      for (let page = 0; page < pages; page++) {
        view = await ask(`${path}?limit=200${cursor ? `&cursor=${cursor}` : ''}`, { signal });
        Object.assign(hosts, view.hosts);
        cursor = next = view.next;
        if (!cursor) break;
      }
      summary = (await ask('v1/tasks?limit=1000', { signal })).tasks.find((task) => task.key === key)?.hosts;
    } catch (error) {
      if (signal.aborted || error.status === 0 || error.status === 401) return;
      return show(body, `no ${error.message}`, h('div', { class: 'card' }, h('h2', null, error.status === 404 ? 'No such task' : 'The task cannot be shown'), error.status === 404 ? h('p', { class: 'muted' }, 'It was never sent, or it ended too long ago.') : h('p', { class: 'muted' }, error.message), h('a', { href: to(['tasks']) }, 'All tasks')));
    }
    // Before the first drawing: the list of hosts is below the outputs, and would move.
    const groups = await fetchGroups();
    if (signal.aborted) return;
    if (!summary) { summary = {}; for (const { state } of Object.values(hosts)) summary[state] = (summary[state] ?? 0) + 1; }
    show(body, 'task', facts, outputs, hostsCard);
    const { rollout } = view;
    show(facts, JSON.stringify([view.created, view.commands, view.target, rollout, summary, !!next]), h('dl', { class: 'facts' },
      h('dt', null, 'Created'), h('dd', null, when(view.created)),
      view.target ? [h('dt', null, 'Target'), h('dd', null, h('a', { class: 'mono', href: to(['hosts'], { target: view.target }) }, view.target))] : null,
      h('dt', null, 'Commands'), h('dd', null, view.commands.map(([command, priority]) => h('div', null, h('code', null, command), h('span', { class: 'muted small' }, ` priority ${priority}`)))),
      rollout ? [h('dt', null, 'Rollout'), h('dd', null, tag(rollout.state), `, wave ${rollout.wave} of ${rollout.waves}${rollout.why ? `: ${rollout.why}` : ''}`)] : null,
      h('dt', null, 'Hosts'), h('dd', null, text(summary) || 'none', bar(shares(summary), text(summary)))));
    const open = isOpen(summary), failed = ['failed', 'lost', 'unanswered'].some((state) => summary[state]);
    show(acts, JSON.stringify([rollout?.state, open, failed]),
      rollout?.state === 'running' ? h('button', { type: 'button', onclick: () => act('pause') }, 'Pause') : null,
      rollout?.state === 'paused' ? h('button', { type: 'button', onclick: () => act('resume') }, 'Resume') : null,
      has('/v1/tasks/KEY/cancel') && (open || rollout?.state === 'paused') ? h('button', { type: 'button', class: 'danger', onclick: () => act('cancel') }, 'Cancel') : null,
      failed ? h('a', { class: 'button', href: to(['dispatch'], { retry: key }) }, 'Retry the failed ones') : null);
    drawHosts(hosts);
    more.hidden = !next;
    drawGroups(groups);
  }
  more.addEventListener('click', () => { pages += 1; fetchAll(); });

  function drawHosts(hosts) {
    keyed(rows, Object.entries(hosts), ([id]) => id, ([, host]) => JSON.stringify(host), ([id, host]) => h('tr', null, h('td', null, hostLink(id)),
      h('td', { class: 'tight' }, tag(host.state), host.working ? h('div', { class: 'small muted' }, host.working) : null),
      h('td', null, Object.entries(host.results).map(([command, result]) => h('details', null,
        h('summary', null, h('code', null, command), ' ', h('span', { class: result.exit === 0 ? 'muted' : 'bad-text' }, `exit ${result.exit}`), h('span', { class: 'muted small' }, ` ${Number(result.seconds).toFixed(1)} s, ${count(result.size)} B`)),
        block(result.output || '(no output)'), Number(result.size) > new Blob([result.output]).size ? h('a', { href: '#', onclick: (event) => { event.preventDefault(); whole(event.target, id, command); } }, 'The whole output') : null)),
      Object.keys(host.results).length ? null : h('span', { class: 'muted' }, host.complete.length ? `${host.complete.length} done` : '–'))));
  }
  async function whole(link, id, command) {
    try {
      const output = await ask(`${path}/hosts/${encodeURIComponent(id)}/output?command=${encodeURIComponent(command)}`, { text: true, signal });
      link.previousElementSibling.replaceWith(block(output));
      link.remove();
    } catch (error) { link.textContent = safe(error.message); }
  }

  /** Groups of equal outputs by command; `null` if the server has not answered. */
  async function fetchGroups() {
    if (!has('/v1/tasks/KEY/groups')) return [];
    const answers = view.commands.slice(0, 20).map(async ([command]) => [command, (await ask(`${path}/groups?command=${encodeURIComponent(command)}`, { signal })).groups]);
    try { return await Promise.all(answers); } catch { return null; }
  }
  function drawGroups(found) {
    if (!found) return;
    const parts = [];
    for (const [command, groups] of found) {
      if (!groups.length) continue;
      const [most, ...others] = groups;
      const differ = others.reduce((sum, group) => sum + group.hosts, 0);
      parts.push(h('h2', null, h('code', null, command), h('span', { class: 'muted small' }, ` ${differ ? `${count(most.hosts)} agree, ${count(differ)} differ` : `${plural(most.hosts, 'host')} agree`}`)),
        groups.slice(0, 20).map((group) => h('details', { open: group === most }, h('summary', null, h('span', { class: 'mono' }, group.folded), ' ', h('span', { class: group.exit === 0 ? 'muted' : 'bad-text' }, `exit ${group.exit}, ${plural(group.hosts, 'host')}`)), block(group.output ?? `(${count(group.size)} bytes, not shown)`))));
    }
    outputs.hidden = !parts.length;
    show(outputs, parts.flat().map((part) => part.textContent).join(), parts);
  }
  outputs.hidden = true;
  soon({ on, signal, fetchAll, of: (event) => event.key === key || event.key === key.split('_')[0] });
  return { title: safe(key) };
}
