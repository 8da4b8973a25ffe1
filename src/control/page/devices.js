// Devices and targets: what the server itself measures and reaches.
import { h, keyed, narrow, safeBlock, show, table, tag, when } from './dom.js';
import { ask, live } from './live.js';

function list({ root, on, signal, title, path, member, event, columns, key, row, empty }) {
  const [grid, rows] = table(title, columns), card = h('div', { class: 'card' });
  show(root, null, h('div', { class: 'head' }, h('h1', null, title)), h('div', { class: 'stack' }, card));
  async function fetchAll() {
    let items;
    try { items = (await ask(path, { signal }))[member]; } catch (error) {
      if (!signal.aborted && error.status >= 400 && error.status !== 401) show(card, error.message, h('p', { class: 'bad-text' }, error.message));
      return;
    }
    if (!items.length) return show(card, 'none', empty);
    show(card, 'some', grid);
    keyed(rows, items, (item) => item[key], (item) => JSON.stringify(item), row);
  }
  let timer = 0;
  on('fresh', fetchAll);
  on('events', ({ detail }) => { if (detail.some((e) => e.event === event) && !timer) timer = setTimeout(() => { timer = 0; if (!signal.aborted) fetchAll(); }, 300); });
  const tick = setInterval(() => { if (live.phase === 'live' && !document.hidden) fetchAll(); }, 10000);
  signal.addEventListener('abort', () => clearInterval(tick));
  if (live.phase === 'live') fetchAll();
}

/** A field with its unit; one that the device marks as invalid says so. */
function fieldText(name, field) {
  if (field === null || typeof field !== 'object') return `${name} ${field}`;
  return `${name} ${field.value ?? '–'}${field.unit ? ` ${field.unit}` : ''}${field.valid === false ? ', invalid' : ''}`;
}

/** The values of a device, each with its age. */
function values(device) {
  const found = Object.entries(device.values ?? {});
  if (!found.length) return h('span', { class: 'muted' }, 'none yet');
  return h('dl', { class: 'facts values' }, found.map(([code, value]) => [
    h('dt', { class: 'mono' }, code),
    h('dd', null, value.refused ? tag('refused', `refused: ${value.refused}`) : value.fields
      ? Object.entries(value.fields).map(([name, field]) => [h('span', { class: `chip ${field?.valid === false ? 'muted' : ''}` }, fieldText(name, field)), ' '])
      : value.data ? h('span', { class: 'mono' }, safeBlock(value.data)) : h('span', { class: 'muted' }, 'no data'), ' ', h('span', { class: 'muted small' }, when(value.at)))]));
}

export const devices = (context) => list({ ...context, title: 'Devices', path: 'v1/ak', member: 'devices', event: 'device', key: 'name',
  columns: [['Device'], ['State'], ['Since', 'wide'], ['Last values']],
  row: (device) => h('tr', null,
    h('td', null, h('div', { class: 'mono' }, device.name), h('div', { class: 'small muted word' }, device.addr)),
    h('td', { class: 'tight' }, tag(device.state), device.reason ? h('div', { class: 'small muted' }, device.reason) : null, narrow(device.since)),
    h('td', { class: 'tight wide' }, when(device.since)), h('td', null, values(device))),
  empty: [h('p', { class: 'empty' }, 'No device is configured. ', h('code', null, 'ak.devices'), ' in the configuration names them:'), h('pre', null, '"ak": {"devices": [{"name": "bench-1", "addr": "192.0.2.7:9883", "allowed_cmd": ["AKON"]}]}')] });

export const targets = (context) => list({ ...context, title: 'Targets', path: 'v1/reach', member: 'targets', event: 'reach', key: 'target',
  columns: [['Target'], ['State'], ['Round trip', 'num'], ['Since', 'wide'], ['Asked', 'wide']],
  row: (target) => h('tr', null, h('td', { class: 'mono' }, target.target), h('td', { class: 'tight' }, tag(target.state), narrow(target.since)),
    h('td', { class: 'num' }, target.rtt_ms == null ? '–' : `${target.rtt_ms < 10 ? target.rtt_ms.toFixed(2) : target.rtt_ms.toFixed(0)} ms`),
    h('td', { class: 'tight wide' }, when(target.since)), h('td', { class: 'tight wide' }, when(target.at))),
  empty: [h('p', { class: 'empty' }, 'No target is configured. ', h('code', null, 'reach.targets'), ' in the configuration names addresses whose reachability is measured:'), h('pre', null, '"reach": {"targets": ["192.0.2.7:22"]}')] });
