// Buildings and floors as tiles; what is wrong comes first.

import { hubNow, may } from './api.js';
import { fill, h, list, setText } from './dom.js';
import { live } from './events.js';
import { alarmQueue } from './model.js';
import { badge, doorLink, link, placeLink } from './parts.js';
import { store, sum } from './store.js';
import { STATES, age, doorsText, moment } from './words.js';

const MAX_ALARMS = 5;

/** @type {(keyof typeof STATES)[]} */
const KINDS = ['alarms', 'unknown', 'unsecured', 'offline', 'secured', 'lockdown'];

/** @param {Counts} counts */
function rank(counts) {
  if (counts.alarms > 0) return 0;
  if (counts.unknown + counts.offline > 0) return 1;
  return counts.unsecured > 0 ? 2 : 3;
}

/** @param {Counts} counts */
function tone(counts) {
  return ['bad', 'doubt', 'open', 'good'][rank(counts)];
}

/** @param {Counts} counts */
function countList(counts) {
  const shown = KINDS.filter((kind) => counts[kind] > 0);
  return h(
    'span',
    { class: 'counts' },
    shown.map((kind) => badge(kind, `${counts[kind].toLocaleString('en')} ${STATES[kind].text}`)),
  );
}

export function overview() {
  const all = h('strong', null);
  const totals = h('span', { class: 'totals' });
  /** @type {Map<string, ReturnType<typeof building>>} */
  const views = new Map();
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
    setText(all, doorsText(total.doors));
    list(
      totals,
      KINDS.filter((kind) => total[kind] > 0 || kind === 'secured'),
      (kind) => kind,
      (kind) => String(total[kind]),
      (kind) =>
        h(
          'a',
          { href: kind === 'alarms' ? link('alarms') : link('doors', { state: kind }) },
          badge(kind, `${total[kind].toLocaleString('en')} ${STATES[kind].text}`),
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
          doorLink(door.id),
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
    empty.hidden = total.doors > 0 || !live.isLoaded;
    /** @type {Map<string, Place[]>} */
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
    for (const { name, floors } of rows) {
      let view = views.get(name);
      if (!view) {
        view = building(name);
        views.set(name, view);
      }
      view.update(floors);
    }
    list(
      buildings,
      rows,
      (row) => row.name,
      () => '',
      (row) => /** @type {{ node: HTMLElement }} */ (views.get(row.name)).node,
    );
  };
  update();
  const node = h(
    'div',
    null,
    h('p', { class: 'totals' }, all, totals),
    attention,
    h('h2', { class: 'hidden' }, 'Buildings'),
    buildings,
    empty,
  );
  return { title: 'Overview', node, update };
}

/**
 * A building: its frame stays, and of its floors those are drawn again that changed.
 *
 * @param {string} name
 */
function building(name) {
  const count = h('small', null);
  const tiles = h('div', { class: 'tiles' });
  const href = link('doors', { building: name });
  const node = h(
    'section',
    { class: 'building' },
    h('h3', null, h('a', { href }, name ? `Building ${name}` : 'No building'), ' ', count),
    tiles,
    name &&
      may.lockDown() &&
      h(
        'p',
        { class: 'no-print' },
        h('a', { href: link('lockdown', { building: name }) }, `Lock down building ${name} …`),
      ),
  );
  /** @param {Place[]} floors */
  const update = (floors) => {
    setText(count, doorsText(floors.reduce((doors, floor) => doors + floor.counts.doors, 0)));
    const sorted = [...floors].sort((a, b) => rank(a.counts) - rank(b.counts));
    list(
      tiles,
      sorted,
      (place) => place.floor,
      (place) => JSON.stringify(place.counts),
      (place) =>
        h(
          'a',
          {
            class: `tile ${tone(place.counts)}`,
            href: link('doors', { building: name, floor: place.floor }),
          },
          h('strong', null, place.floor ? `Floor ${place.floor}` : 'No floor'),
          countList(place.counts),
        ),
    );
  };
  return { node, update };
}
