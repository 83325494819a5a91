// Buildings and floors as tiles; what is wrong comes first.

import { hubNow, may } from './api.js';
import { h, fill, list } from './dom.js';
import { alarmQueue } from './model.js';
import { badge, doorLink, link, placeLink } from './parts.js';
import { store, sum } from './store.js';
import { STATES, age, doorsText, moment } from './words.js';

/** Alarms that are shown here; the others are on their own page. */
const MAX_ALARMS = 5;

/** @type {(keyof typeof STATES)[]} */
const KINDS = ['alarms', 'unknown', 'unsecured', 'offline', 'secured', 'lockdown'];

/** @param {import('./store.js').Counts} counts */
function rank(counts) {
  if (counts.alarms > 0) return 0;
  if (counts.unknown + counts.offline > 0) return 1;
  return counts.unsecured > 0 ? 2 : 3;
}

/** @param {import('./store.js').Counts} counts */
function tone(counts) {
  return ['bad', 'doubt', 'open', 'good'][rank(counts)];
}

/** @param {import('./store.js').Counts} counts */
function countList(counts) {
  const shown = KINDS.filter((kind) => counts[kind] > 0);
  return h(
    'span',
    { class: 'counts' },
    shown.map((kind) => badge(kind, `${counts[kind].toLocaleString('en')} ${STATES[kind].text}`)),
  );
}

/** @returns {import('./parts.js').View} */
export function overview() {
  const totals = h('p', { class: 'totals' });
  const alarms = h('ul', { class: 'plain' });
  const more = h('p', null);
  const attention = h(
    'section',
    { hidden: true, class: 'attention' },
    h('h2', null, 'In alarm'),
    alarms,
    more,
  );
  const buildings = h('div', { class: 'buildings' });
  const empty = h('p', { hidden: true }, 'There are no doors here.');

  const update = () => {
    const { total } = store;
    fill(
      totals,
      h('strong', null, doorsText(total.doors)),
      KINDS.filter((kind) => total[kind] > 0 || kind === 'secured').map((kind) =>
        h(
          'a',
          {
            href: kind === 'alarms' ? link('alarms') : link('doors', { state: kind }),
          },
          badge(kind, `${total[kind].toLocaleString('en')} ${STATES[kind].text}`),
        ),
      ),
    );
    const queue = alarmQueue(store.of(store.alarmed));
    attention.hidden = queue.length === 0;
    const now = hubNow();
    list(
      alarms,
      queue.slice(0, MAX_ALARMS),
      ({ door, alarm }) => `${door.id} ${alarm.name}`,
      ({ door, alarm }) => `${door.revision} ${alarm.since && age(now - moment(alarm.since))}`,
      ({ door, alarm }) =>
        h(
          'li',
          null,
          badge('alarms', alarm.name),
          ' at ',
          doorLink(door.id, { 'data-focus': 'door' }),
          ', ',
          placeLink(door),
          alarm.since && `, ${age(now - moment(alarm.since))} ago`,
          alarm.acknowledged && ', acknowledged',
        ),
    );
    fill(
      more,
      queue.length > MAX_ALARMS && h('a', { href: link('alarms') }, `all ${queue.length} alarms`),
    );
    empty.hidden = total.doors > 0;
    /** @type {Map<string, import('./store.js').Place[]>} */
    const places = new Map();
    for (const place of store.sortedPlaces()) {
      const floors = places.get(place.building);
      if (floors) floors.push(place);
      else places.set(place.building, [place]);
    }
    const rows = [...places].map(([name, floors]) => ({
      name,
      floors,
      counts: sum(floors.map((floor) => floor.counts)),
    }));
    rows.sort((a, b) => rank(a.counts) - rank(b.counts));
    list(
      buildings,
      rows,
      (row) => row.name,
      (row) => JSON.stringify(row.floors.map((floor) => [floor.floor, floor.counts])),
      building,
    );
  };
  update();
  const node = h(
    'div',
    null,
    totals,
    attention,
    h('h2', { class: 'hidden' }, 'Buildings'),
    buildings,
    empty,
  );
  return { title: 'Overview', node, update };
}

/**
 * @param {{ name: string, floors: import('./store.js').Place[],
 *   counts: import('./store.js').Counts }} building
 */
function building({ name, floors, counts }) {
  const sorted = [...floors].sort((a, b) => rank(a.counts) - rank(b.counts));
  return h(
    'section',
    { class: 'building' },
    h(
      'h3',
      null,
      h(
        'a',
        { href: link('doors', { building: name }), 'data-focus': 'building' },
        name ? `Building ${name}` : 'No building',
      ),
      ' ',
      h('small', null, doorsText(counts.doors)),
    ),
    h(
      'div',
      { class: 'tiles' },
      sorted.map((place) =>
        h(
          'a',
          {
            class: `tile ${tone(place.counts)}`,
            href: link('doors', { building: name, floor: place.floor }),
            'data-focus': place.floor,
          },
          h('strong', null, place.floor ? `Floor ${place.floor}` : 'No floor'),
          countList(place.counts),
        ),
      ),
    ),
    may.call('lockdown') &&
      may.desire('lockdown') &&
      h(
        'p',
        { class: 'no-print' },
        h(
          'a',
          {
            href: link('lockdown', { building: name }),
            'data-focus': 'lockdown',
          },
          name ? `Lock down building ${name} …` : 'Lock down …',
        ),
      ),
  );
}
