// Dispatch: a form whose plan is always shown before anything is sent.
import { count, fold, h, plural, safe, show, to } from './dom.js';
import { Problem, ask, has, live } from './live.js';
import { completions, targetField } from './hosts.js';

const stamp = () => {
  const two = (n) => String(n).padStart(2, '0'), d = new Date();
  const end = Array.from(crypto.getRandomValues(new Uint8Array(4)), (n) => 'abcdefghijkmnpqrstuvwxyz'[n % 24]).join('');
  return `${String(d.getFullYear()).slice(2)}${two(d.getMonth() + 1)}${two(d.getDate())}-${two(d.getHours())}${two(d.getMinutes())}${two(d.getSeconds())}-${end}`;
};

export function dispatch({ root, query, on, set, signal }) {
  const retry = query.get('retry') ?? '';
  const plan = h('section', { class: 'card', 'aria-label': 'Plan', 'aria-live': 'polite' });
  let planned = null, number = 0;

  const field = targetField({ value: query.get('target') ?? '', options: completions, changed: (text) => { set({ target: text, retry }); changed(); } });
  const key = h('input', { type: 'text', class: 'mono', value: `${live.health?.key_prefix ?? 'AC'}${stamp()}`, spellcheck: 'false', autocomplete: 'off' });
  const commands = h('div', { class: 'form' });
  function command(text = '') {
    const input = h('input', { type: 'text', class: 'mono', placeholder: 'uptime', value: text, spellcheck: 'false', autocomplete: 'off', autocapitalize: 'off' });
    const row = h('div', { class: 'row' }, h('label', { class: 'grow' }, h('span', { class: 'label' }, 'Command'), input),
      h('button', { type: 'button', onclick: () => { if (commands.children.length > 1) { row.remove(); changed(); } else input.value = ''; } }, 'Remove'));
    row.input = input;
    commands.append(row);
    return input;
  }
  command();
  const offline = h('select', null, h('option', { value: 'skip' }, 'are left out'), h('option', { value: 'queue' }, 'receive it when they return'));
  const batch = h('input', { type: 'text', placeholder: '1, 10%, 100%', autocomplete: 'off' });
  const fails = h('input', { type: 'text', placeholder: '0', autocomplete: 'off' });
  const pause = h('input', { type: 'text', placeholder: 'none', autocomplete: 'off' });
  const waves = h('fieldset', null, h('legend', null, 'In waves'), h('div', { class: 'row' },
    h('label', { class: 'short' }, h('span', { class: 'label' }, 'Sizes'), batch), h('label', { class: 'short' }, h('span', { class: 'label' }, 'Failures allowed'), fails),
    h('label', { class: 'short' }, h('span', { class: 'label' }, 'Pause, s, or ask'), pause)));
  const form = h('form', { class: 'card form', novalidate: true },
    retry ? h('p', null, 'The hosts of ', h('a', { class: 'mono', href: to(['task', retry]) }, retry), ' that failed, were lost or did not answer, with the same commands.') : [field.element, field.said],
    retry ? null : h('fieldset', null, h('legend', null, 'Commands'), commands, h('p', null), h('button', { type: 'button', onclick: () => command().focus() }, 'Add a command')),
    h('div', { class: 'row' }, h('label', { class: 'grow' }, h('span', { class: 'label' }, 'Key of the task, used once'), key), h('label', null, h('span', { class: 'label' }, 'Hosts that are offline'), offline)),
    waves,
    h('div', null, h('button', { type: 'submit', class: 'first' }, 'Show the plan')));
  waves.hidden = retry !== '' || !has('/v1/plan');
  show(root, null, h('div', { class: 'head' }, h('h1', null, 'Dispatch')), h('div', { class: 'stack' }, form, plan));
  show(plan, 'first', h('p', { class: 'empty' }, 'The plan appears here: which hosts, how many of them are offline, and in which order. Nothing is sent before you confirm it.'));

  const texts = () => [...commands.children].map((row) => row.input.value.trim()).filter(Boolean);
  function changed() {
    number += 1;
    if (!planned) return;
    planned = null;
    show(plan, 'changed', h('p', { class: 'empty' }, 'The form has changed. Show the plan again.'));
  }
  form.addEventListener('input', (event) => { if (event.target !== field.input) changed(); });

  /** The body of the request: the first command has the highest priority. */
  function body() {
    const list = texts(), wish = { key: key.value.trim() };
    if (!retry) {
      wish.target = field.input.value.trim();
      wish.commands = Object.fromEntries(list.map((text, k) => [text, list.length - k]));
    }
    wish.offline = offline.value;
    if (batch.value.trim()) wish.batch = batch.value.replace(/\s/g, '');
    if (fails.value.trim()) wish.max_fail = /%$/.test(fails.value) ? fails.value.trim() : Number(fails.value);
    if (pause.value.trim()) wish.pause_s = pause.value.trim() === 'ask' ? 'ask' : Number(pause.value);
    return wish;
  }

  const problem = (text) => show(plan, null, h('p', { class: 'bad-text', role: 'alert' }, text));
  async function makePlan() {
    const mine = ++number;
    planned = null;
    if (!retry) {
      if (!field.input.value.trim()) { field.input.focus(); return problem('Type a target: which hosts? all means every known host.'); }
      if (!texts().length) { commands.firstChild.input.focus(); return problem('Type a command.'); }
      if (new Set(texts()).size < texts().length) return problem('A command stands there twice: a task runs each once.');
    }
    if (!key.value.trim()) { key.focus(); return problem('Type a key for the task.'); }
    show(plan, null, h('p', { class: 'empty' }, 'Asking the server …'));
    let answer;
    try {
      answer = await (retry ? retryPlan() : has('/v1/plan') ? serverPlan() : ownPlan());
    } catch (error) {
      if (!signal.aborted && mine === number) problem(error.message);
      return;
    }
    if (signal.aborted || mine !== number) return;
    planned = answer;
    drawPlan();
  }

  /** The plan of a server that makes plans. */
  async function serverPlan() {
    const wish = body();
    const made = await ask('v1/plan', { method: 'POST', body: wish, signal });
    const total = made.hosts;
    return { folded: made.waves.map((wave) => wave.folded).join(','), total, offline: made.offline, waves: made.waves, send: { ...wish, expect: total } };
  }
  /** The plan where the server makes none: the hosts are named one by one. */
  async function ownPlan() {
    const ids = [], away = [];
    let cursor = null;
    do {
      const page = await ask(`v1/fleet?target=${encodeURIComponent(field.input.value.trim())}${cursor ? `&cursor=${cursor}` : ''}`, { signal });
      page.id.forEach((id, i) => (page.state[i] === 0 ? ids : away).push(id));
      cursor = page.next;
    } while (cursor);
    const { target, offline: what, ...wish } = body();
    const queue = what === 'queue';
    return { folded: fold([...ids, ...away]), total: ids.length + away.length, offline: away.length, waves: [], send: { key: wish.key, commands: wish.commands, hosts: queue ? [...ids, ...away] : ids, queue } };
  }

  /** The hosts of a task that failed, were lost or did not answer, and its commands. */
  async function retryPlan() {
    const ids = [], page = `v1/tasks/${encodeURIComponent(retry)}?limit=1000`;
    let cursor = null, commands_ = [];
    do {
      const view = await ask(cursor ? `${page}&cursor=${cursor}` : page, { signal });
      commands_ = view.commands;
      for (const [id, { state }] of Object.entries(view.hosts)) if (['failed', 'lost', 'unanswered'].includes(state)) ids.push(id);
      cursor = view.next;
    } while (cursor);
    if (!ids.length) throw new Problem(0, 'no host of this task failed, was lost or did not answer');
    const wish = body();
    return { folded: fold(ids), total: ids.length, offline: null, waves: [], send: { key: wish.key, commands: Object.fromEntries(commands_), hosts: ids, queue: wish.offline === 'queue' } };
  }

  function drawPlan() {
    const { folded, total, offline: away, waves: steps, send } = planned;
    const queue = offline.value === 'queue', reached = queue ? total : total - (away ?? 0);
    const button = h('button', { type: 'button', class: 'first', disabled: reached === 0 }, `Send to ${plural(reached, 'host')}`);
    const said = h('p', { class: 'said', role: 'status' });
    button.addEventListener('click', async () => {
      button.disabled = true;
      said.className = 'said';
      said.textContent = 'Sending …';
      try {
        const answer = await ask('v1/tasks', { method: 'POST', body: send, signal });
        location.hash = to(['task', answer.key]);
      } catch (error) {
        if (signal.aborted) return;
        said.className = 'said bad';
        said.textContent = safe(error.status === 0 ? 'The server did not answer, so it may or may not have been sent: the list of tasks says which.' : error.message);
        button.disabled = false;
      }
    });
    const size = (wave) => (typeof wave === 'number' ? wave : wave.hosts ?? wave.count ?? wave.size ?? 0);
    show(plan, null, h('h2', null, 'Plan'), h('dl', { class: 'facts' },
      h('dt', null, 'Hosts'), h('dd', null, plural(total, 'host'), away === null ? '' : [': ', count(total - away), ' online, ', count(away), ' offline'], away ? (queue ? ', which receive it when they return' : ', which are left out') : ''),
      h('dt', null, 'Names'), h('dd', { class: 'mono' }, folded.length > 4000 ? `${folded.slice(0, 4000)} …` : folded || 'none'),
      retry ? null : [h('dt', null, 'Commands'), h('dd', null, texts().map((text, k) => h('div', null, `${k + 1}. `, h('code', null, text))))],
      steps.length > 1 ? [h('dt', null, 'Waves'), h('dd', null, steps.map((wave, k) => h('div', null, `${k + 1}. ${plural(size(wave), 'host')}`, wave.folded ? [': ', h('span', { class: 'mono' }, wave.folded)] : '')))] : null,
      h('dt', null, 'Key'), h('dd', { class: 'mono' }, send.key)), h('p', null), button, said);
    button.focus();
  }

  form.addEventListener('submit', (event) => { event.preventDefault(); makePlan(); });
  on('summary', () => { if (!key.touched && live.health && !key.value.startsWith(live.health.key_prefix)) key.value = live.health.key_prefix + stamp(); });
  key.addEventListener('input', () => { key.touched = true; });
  return { focus: !retry && !field.input.value ? field.input : null };
}
