// Map: one cell a host, in blocks of a group, under headings of the group above it.
//
// The drawing is cut into strips, each with a canvas. Only strips near the window are drawn and hold memory, so the
// costs of a drawing, and of a change in it, do not grow with the fleet.
import { begin, count, h, keyed, kind, mark, pause, plural, safe, show, sorted, span, table, to } from './dom.js';
import { live, want } from './live.js';
import { completions, natural, targetField } from './hosts.js';
import { groupName, groupTarget } from './overview.js';

const GROUPINGS = [['net24', 'Network'], ['node', 'Node'], ['label', 'Label …']];
const CELLS = [[400, 18], [2000, 12], [8000, 9], [30000, 6], [80000, 5], [Infinity, 4]];
/** Rows of the table of groups; a target selects others. */
const GROUPS_LISTED = 200;
/** Height of a strip, and how near the window it is drawn. */
const STRIP = 512, NEAR = 400;
const HEADING = 28, LABEL = 18, GAP = 12;

export function map({ root, query, on, set, signal }) {
  let target = query.get('target') ?? '', by = query.get('by') ?? 'net24', colour = query.get('colour') ?? 'state';
  let blocks = [], line = null, headings = [], place = null, size = 9, width = 0, height = 0, cursor = -1, strips = [];
  const remember = () => set({ target, by: by === 'net24' ? '' : by, colour: colour === 'state' ? '' : colour });

  const field = targetField({ value: target, changed: (text) => { if (text !== target) { target = text; remember(); fetchAll(); } }, options: completions });
  const grouping = h('select', { 'aria-label': 'Group by' }, GROUPINGS.map(([value, name]) => h('option', { value }, name)));
  const key = h('input', { type: 'text', placeholder: 'dc', class: 'mono' });
  const keyField = h('label', { class: 'key' }, h('span', { class: 'label' }, 'Label key'), key);
  const colouring = h('select', { 'aria-label': 'Colour by' }, h('option', { value: 'state' }, 'State'), h('option', { value: 'silence' }, 'Silence'));
  const selects = () => {
    grouping.value = by.startsWith('label') ? 'label' : by;
    keyField.hidden = !by.startsWith('label');
    key.value = by.startsWith('label:') ? by.slice(6) : '';
    colouring.value = colour;
  };
  grouping.addEventListener('change', () => { by = grouping.value; selects(); if (by === 'label') key.focus(); else { remember(); fetchAll(); } });
  key.addEventListener('change', () => { if (key.value.trim()) { by = `label:${key.value.trim()}`; remember(); fetchAll(); } });
  colouring.addEventListener('change', () => { colour = colouring.value; remember(); legend(); paint(); });

  const ring = h('div', { class: 'ring' });
  const canvas = h('div', { class: 'cells', tabindex: 0, 'data-arrows': '', role: 'application', 'aria-roledescription': 'map' }, ring);
  ring.hidden = true;
  const hint = h('p', { class: 'said', role: 'status' });
  const key_ = h('ul', { class: 'legend', 'aria-label': 'Legend' });
  const board = h('div', { class: 'card' }, key_, hint, canvas);
  const [list, rows] = table('Groups', [['Group'], ['Online', 'num'], ['Offline', 'num']]);
  const side = h('section', { class: 'card side', 'aria-label': 'Groups' }, h('h2', null, 'Groups'), list);
  const none = h('div', { class: 'card' });
  none.hidden = true;
  const body = h('div', { class: 'map' }, board, side);
  show(root, null, h('div', { class: 'head' }, h('h1', null, 'Map')),
    h('div', { class: 'tools' }, field.element, h('label', null, h('span', { class: 'label' }, 'Group by'), grouping), keyField, h('label', null, h('span', { class: 'label' }, 'Colour by'), colouring)),
    field.said, body, none);

  function legend() {
    const swatch = (name, text) => h('li', null, h('span', { class: `swatch ${name}`, 'aria-hidden': 'true' }), text);
    const limit = live.summary?.timeout_s ?? 60;
    show(key_, `${colour} ${limit}`, colour === 'state' ? [swatch('ok', 'online'), swatch('hatch', 'offline')]
      : [swatch('ok', `silent up to ${span(limit / 3)}`), swatch('warn', `up to ${span(limit * 2 / 3)}`), swatch('bad', `longer, offline from ${span(limit)} on`), swatch('hatch', 'offline')]);
  }

  /** Group above a group: the first two bytes of a network; else its first letter does not help, so none. */
  const above = (fleet, i) => (by === 'net24' ? /^(\d+\.\d+)\.\d+\.0\/24$/.exec(fleet.groups[0][fleet.group[0][i]])?.[1] ?? '' : fleet.groups[0][fleet.group[0][i]]);
  const inner = () => (by === 'net24' ? 0 : 1);
  const numbered = (name) => name.replace(/\d+/g, (digits) => digits.padStart(10, '0'));
  /** Names in natural order. */
  const ordered = (names) => Array.from(names, (name) => [numbered(name), name]).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)).map(([, name]) => name);

  let layoutNumber = 0;
  /** Gives each host a place. */
  async function layout() {
    const mine = ++layoutNumber, { fleet } = live;
    if (!fleet) return;
    width = Math.max(240, board.clientWidth - 34);
    size = CELLS.find(([most]) => fleet.length <= most)[1];
    const tree = new Map(), keys = await natural(fleet), byName = (a, b) => (keys[a] < keys[b] ? -1 : keys[a] > keys[b] ? 1 : 0);
    if (mine !== layoutNumber) return;
    begin();
    for (let i = 0; i < fleet.length; i++) {
      const outer = above(fleet, i), name = fleet.groups[inner()]?.[fleet.group[inner()][i]] ?? '';
      let branch = tree.get(outer);
      if (!branch) tree.set(outer, branch = new Map());
      const leaf = branch.get(name);
      if (leaf) leaf.push(i); else branch.set(name, [i]);
      if ((i & 511) === 0) { await pause(); if (mine !== layoutNumber) return; }
    }
    blocks = []; line = null; headings = [];
    place = new Float32Array(fleet.length * 2);
    let y = 0;
    for (const outer of ordered(tree.keys())) {
      const branch = tree.get(outer);
      let on = 0, all = 0;
      for (const leaf of branch.values()) { all += leaf.length; for (const i of leaf) on += fleet.isOnline(i); }
      headings.push({ name: outer, y, on, all });
      y += HEADING;
      let x = 0, tallest = 0;
      for (const name of ordered(branch.keys())) {
        const leaf = await sorted(Uint32Array.from(branch.get(name)), byName, () => mine !== layoutNumber);
        if (!leaf) return;
        const columns = leaf.length > 1500 ? Infinity : Math.max(Math.ceil(Math.sqrt(leaf.length * 1.4)), Math.ceil(88 / size));
        const wide = Math.min(columns, Math.floor(width / size)), w = wide * size, tall = LABEL + Math.ceil(leaf.length / wide) * size;
        if (x && x + w > width) { x = 0; y += tallest + GAP; tallest = 0; }
        let on_ = 0;
        leaf.forEach((i, k) => { place[2 * i] = x + (k % wide) * size; place[2 * i + 1] = y + LABEL + Math.floor(k / wide) * size; on_ += fleet.isOnline(i); });
        blocks.push({ outer, name, x, y, w, h: tall, wide, leaf, on: on_ });
        x += w + GAP;
        tallest = Math.max(tallest, tall);
        await pause();
        if (mine !== layoutNumber) return;
      }
      y += tallest + GAP + 4;
    }
    height = Math.max(1, y);
    cursor = -1;
    mark_();
    cut();
    const empty = fleet.length === 0;
    body.hidden = empty;
    none.hidden = !empty;
    if (empty) show(none, target, h('p', { class: 'empty' }, target ? 'The target selects no host.' : ['No host has connected yet. ', h('code', null, 'anthill agent --server SERVER --id web-1'), ' starts one.']));
    field.say(`${plural(fleet.length, 'host')} in ${plural(blocks.length, 'group')}.`);
    canvas.setAttribute('aria-label', `Map of ${plural(fleet.length, 'host')}: the arrow keys move, Enter opens. The table of groups has the same counts.`);
    paint();
    listGroups();
  }

  let listNumber = 0;
  async function listGroups() {
    const mine = ++listNumber, { fleet } = live;
    if (!fleet) return;
    const place_ = fleet.group[0] ?? [], on_ = new Uint32Array(fleet.groups[0]?.length ?? 0), off = new Uint32Array(on_.length);
    begin();
    for (let i = 0; i < fleet.length; i++) {
      (fleet.isOnline(i) ? on_ : off)[place_[i]] += 1;
      if ((i & 2047) === 0) { await pause(); if (mine !== listNumber) return; }
    }
    const at_ = new Map(fleet.groups[0]?.map((name, k) => [name, k])), groups = ordered(at_.keys());
    const listed = groups.slice(0, GROUPS_LISTED);
    keyed(rows, listed, (name) => name, (name) => `${on_[at_.get(name)]} ${off[at_.get(name)]}`, (name) => {
      const k = at_.get(name);
      return h('tr', null, h('td', null, h('a', { class: 'mono', href: narrowed(name) }, groupName(name))), h('td', { class: 'num' }, count(on_[k])), h('td', { class: 'num' }, off[k] ? h('span', { class: 'bad-text' }, count(off[k])) : '0'));
    });
    if (groups.length > listed.length) rows.append(h('tr', null, h('td', { colspan: 3, class: 'muted' }, `${plural(groups.length - listed.length, 'more group')}`)));
  }
  /** This view with the target of a group. */
  const narrowed = (name) => {
    const term = groupTarget(by, name);
    const kept = by === 'net24' ? terms(target).filter((old) => old.startsWith('!') || /=| in | notin /.test(old)) : terms(target);
    return to(['map'], { target: [term, ...kept.filter((old) => old !== term)].join(','), by: by === 'net24' ? '' : by, colour: colour === 'state' ? '' : colour });
  };
  const terms = (text) => text.split(/,(?![^[(]*[\])])/).map((term) => term.trim()).filter(Boolean);

  const scale = Math.min(window.devicePixelRatio || 1, 2);
  let paints = {};
  function colours() {
    const style = getComputedStyle(document.body), of = (name) => style.getPropertyValue(name).trim();
    const hatch = (fill) => {
      const tile = document.createElement('canvas');
      tile.width = tile.height = 4;
      const c = tile.getContext('2d');
      c.fillStyle = fill;
      for (let k = 0; k < 4; k++) { c.fillRect(k, 3 - k, 1, 1); c.fillRect((k + 1) % 4, 3 - k, 1, 1); }
      return c.createPattern(tile, 'repeat');
    };
    paints = { ok: of('--ok-fill'), warn: of('--warn-fill'), bad: of('--bad-fill'), hatch: hatch(of('--bad-fill')), text: of('--text'), muted: of('--muted') };
  }
  function paintOf(fleet, i) {
    if (!fleet.isOnline(i)) return 'hatch';
    if (colour === 'state') return 'ok';
    const share = fleet.silenceOf(i) / (live.summary?.timeout_s || 60);
    return share < 1 / 3 ? 'ok' : share < 2 / 3 ? 'warn' : 'bad';
  }
  function cell(context, x, y, fill) {
    const gap = size > 5 ? 1 : size > 3 ? .5 : 0, side_ = size - gap;
    context.clearRect(x - .5, y - .5, size, size);
    context.fillStyle = paints[fill];
    context.fillRect(x, y, side_, side_);
    if (fill === 'hatch' && size > 5) { context.strokeStyle = paints.bad; context.lineWidth = 1; context.strokeRect(x + .5, y + .5, side_ - 1, side_ - 1); }
  }

  const near = new IntersectionObserver((entries) => {
    for (const { target: { strip }, isIntersecting } of entries) {
      strip.near = isIntersecting;
      if (isIntersecting) paintStrip(strip);
      else if (strip.context) { strip.drawn += 1; strip.context = null; strip.canvas.width = strip.canvas.height = 0; }
    }
  }, { rootMargin: `${NEAR}px` });
  signal.addEventListener('abort', () => near.disconnect());
  /** Makes as many strips as the height needs. */
  function cut() {
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const needed = Math.ceil(height / STRIP);
    for (const strip of strips.splice(needed)) { near.unobserve(strip.element); strip.drawn += 1; strip.element.remove(); }
    while (strips.length < needed) {
      const surface = h('canvas', { width: 0, height: 0 }), element = h('div', null, surface);
      const strip = { element, canvas: surface, top: strips.length * STRIP, near: false, context: null, drawn: 0 };
      element.strip = strip;
      element.style.transform = `translateY(${strip.top}px)`;
      strips.push(strip);
      canvas.append(element);
      near.observe(element);
    }
    strips.forEach((strip) => { strip.element.style.height = `${Math.min(STRIP, height - strip.top)}px`; });
  }
  /** Draws what is near the window. */
  function paint() {
    colours();
    for (const strip of strips) if (strip.near) paintStrip(strip);
  }
  /** Draws a strip: first the names, then the cells in slices of a turn. */
  async function paintStrip(strip) {
    const mine = ++strip.drawn, { fleet } = live, { top } = strip, end = Math.min(top + STRIP, height);
    if (!fleet || !place || place.length !== fleet.length * 2) return;
    const [wide, tall] = [Math.round(width * scale), Math.round((end - top) * scale)];
    if (strip.canvas.width !== wide || strip.canvas.height !== tall) {
      [strip.canvas.width, strip.canvas.height] = [wide, tall];
      strip.canvas.style.width = `${width}px`;
      strip.canvas.style.height = `${end - top}px`;
    }
    const context = strip.context ??= strip.canvas.getContext('2d', { alpha: true });
    context.setTransform(scale, 0, 0, scale, 0, -top * scale);
    context.clearRect(0, top, width, STRIP);
    context.textBaseline = 'top';
    for (const heading of headings) {
      if (heading.y + HEADING < top || heading.y > end) continue;
      context.font = '600 14px system-ui, sans-serif';
      context.fillStyle = paints.text;
      const name = safe(by === 'net24' ? (heading.name ? `${heading.name}.0.0/16` : 'Other addresses') : groupName(heading.name));
      context.fillText(name, 0, heading.y + 6);
      const after = context.measureText(name).width + 8;
      context.font = '12px system-ui, sans-serif';
      context.fillStyle = paints.muted;
      context.fillText(`${count(heading.on)} online, ${count(heading.all - heading.on)} offline`, after, heading.y + 8);
    }
    for (const block of blocks) {
      if (block.y + block.h < top || block.y > end) continue;
      if (block.y + LABEL > top) {
        context.font = '11px ui-monospace, "DejaVu Sans Mono", monospace';
        context.fillStyle = paints.muted;
        let name = safe(groupName(block.name)).replace(/\/24$/, '');
        while (name.length > 2 && context.measureText(name).width > block.w) name = `${name.slice(0, -2)}…`;
        context.fillText(name, block.x, block.y + 3);
      }
      const y0 = block.y + LABEL, from = Math.max(0, Math.floor((top - y0) / size)) * block.wide, to_ = Math.min(block.leaf.length, Math.ceil((end - y0) / size) * block.wide);
      for (let k = from; k < to_; k++) {
        const i = block.leaf[k];
        cell(context, place[2 * i], place[2 * i + 1], paintOf(fleet, i));
        if ((k & 127) === 0) { await pause(); if (mine !== strip.drawn) return; }
      }
    }
  }
  /** Draws a host whose state has changed. */
  function paintCell(fleet, i) {
    const [x, y] = [place[2 * i], place[2 * i + 1]];
    for (const k of new Set([Math.floor(y / STRIP), Math.floor((y + size) / STRIP)])) if (strips[k]?.context) cell(strips[k].context, x, y, paintOf(fleet, i));
  }
  function mark_() {
    ring.hidden = cursor < 0;
    if (cursor < 0) return;
    ring.style.transform = `translate(${place[2 * cursor] - 2}px, ${place[2 * cursor + 1] - 2}px)`;
    ring.style.width = ring.style.height = `${size + 3}px`;
  }

  const at = (event) => {
    const box = canvas.getBoundingClientRect(), ratio = width / box.width;
    const x = (event.clientX - box.left) * ratio, y = (event.clientY - box.top) * ratio;
    const block = blocks.find((b) => x >= b.x && x < b.x + b.w && y >= b.y && y < b.y + b.h);
    if (!block) return { heading: headings.find((head) => y >= head.y && y < head.y + HEADING) };
    if (y < block.y + LABEL) return { block };
    const k = Math.floor((y - block.y - LABEL) / size) * block.wide + Math.floor((x - block.x) / size);
    return { block, host: block.leaf[k] };
  };
  function describe(i) {
    const { fleet } = live, silence = fleet.silenceOf(i), online = fleet.isOnline(i);
    show(hint, null, mark(online ? 'ok' : kind('offline')), ' ', h('span', { class: 'mono' }, fleet.id[i]), ` · ${fleet.states[fleet.state[i]]}${silence === null ? '' : ` · silent for ${span(silence)}`}`);
  }
  const idle = 'Point at a cell to see its host. A click opens it; a click on a group selects the group.';
  hint.textContent = idle;
  canvas.addEventListener('pointermove', (event) => {
    if (!live.fleet || !place) return;
    const { block, host } = at(event);
    if (host !== undefined) describe(host);
    else if (block) hint.textContent = safe(`${groupName(block.name)}: ${plural(block.leaf.length, 'host')}`);
    else hint.textContent = idle;
  });
  canvas.addEventListener('pointerleave', () => { hint.textContent = idle; });
  canvas.addEventListener('click', (event) => {
    if (!live.fleet || !place) return;
    const { block, host, heading } = at(event);
    if (host !== undefined) location.hash = to(['host', live.fleet.id[host]]);
    else if (block) location.hash = narrowed(by === 'net24' ? block.name : block.outer);
    else if (heading) location.hash = by === 'net24' ? (heading.name ? to(['map'], { target: `${heading.name}.0.0/16` }) : to(['map'])) : narrowed(heading.name);
  });
  canvas.addEventListener('keydown', (event) => {
    const { fleet } = live;
    if (!fleet?.length || !place) return;
    if (event.key === 'Enter' && cursor >= 0) { location.hash = to(['host', fleet.id[cursor]]); return; }
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 'down', ArrowUp: 'up', Home: 'first', End: 'last' };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    line ??= blocks.flatMap((block) => [...block.leaf]);
    let k = cursor < 0 ? -1 : line.indexOf(cursor);
    const block = blocks.find((b) => b.leaf.includes(cursor));
    if (step === 'first' || k < 0) k = 0;
    else if (step === 'last') k = line.length - 1;
    else k += step === 'down' ? block.wide : step === 'up' ? -block.wide : step;
    cursor = line[Math.max(0, Math.min(line.length - 1, k))];
    mark_();
    describe(cursor);
    const top = canvas.getBoundingClientRect().top + place[2 * cursor + 1];
    if (top < 80 || top > innerHeight - 40) window.scrollBy(0, top - innerHeight / 2);
  });

  function fetchAll() {
    field.say('Fetching the hosts …');
    // Two levels: networks are under their first two bytes, all others have networks below.
    want(target, by === 'net24' ? 'net24' : `${by},net24`);
    if (live.fleet) layout();
  }
  on('fleet-part', ({ detail }) => { if (!live.fleet) field.say(`${count(detail)} hosts so far …`); });
  on('fleet', layout);
  on('rows', ({ detail }) => {
    const { fleet } = live;
    if (place?.length !== fleet.length * 2) return;
    for (const i of detail) paintCell(fleet, i);
    later();
  });
  let timer = 0;
  const later = () => { timer ||= setTimeout(() => { timer = 0; if (!signal.aborted) listGroups(); }, 1000); };
  on('fleet-problem', ({ detail }) => { field.say(detail.message, true); body.hidden = true; none.hidden = true; });
  on('phase', paint);
  on('summary', legend);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', paint, { signal });
  let resizing = 0;
  window.addEventListener('resize', () => { clearTimeout(resizing); resizing = setTimeout(() => { if (board.clientWidth - 34 !== width) layout(); }, 150); }, { signal });
  selects();
  legend();
  fetchAll();
  return {
    query: (next) => {
      target = field.input.value = next.get('target') ?? '';
      by = next.get('by') ?? 'net24';
      colour = next.get('colour') ?? 'state';
      selects();
      legend();
      fetchAll();
    },
  };
}
