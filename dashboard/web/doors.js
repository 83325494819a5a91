// Doors of a floor, of a building or of all, as a table, and on a plan if there is one.

import { may, patchTwin } from './api.js';
import { actionButton, fill, h, list, outcomeRegion, setText } from './dom.js';
import { comparePlaces, trouble } from './model.js';
import { Plan, planOf } from './plan.js';
import {
  alarmBadges,
  badge,
  doorLink,
  field,
  link,
  pager,
  placeLink,
  row,
  select,
  stateBadge,
  table,
} from './parts.js';
import { store } from './store.js';
import { STATES, doorsText, placeText } from './words.js';

const TITLES = ['Door', 'State', 'Alarms', 'Lock', 'Contact', 'Mode', 'Place'];

/** Bytes of a plan: the most that a hub takes. */
const MAX_PLAN = 2_097_152;

/** @type {Record<string, (door: Door) => boolean>} */
const FILTERS = {
  wrong: (door) => trouble(door) < 2,
  alarms: (door) => door.alarms.length > 0,
  lockdown: (door) => door.isLockedDown,
};

/** @param {URLSearchParams} parameters */
export function doors(parameters) {
  const building = parameters.get('building');
  const floor = parameters.get('floor');
  let find = (parameters.get('find') ?? '').toLowerCase();
  let state = parameters.get('state') ?? '';
  const isPlace = building !== null || floor !== null;
  const place = { building: building ?? '', floor: floor ?? '' };
  const title = isPlace ? capital(placeText(place)) : 'Doors';

  const pages = pager(() => update());
  // On a floor every door is at the same place.
  const titles = floor === null ? TITLES : TITLES.slice(0, -1);
  const { node: tableNode, body } = table('Doors, those with a problem first', titles);
  const count = h('p', { role: 'status' });
  const states = select(
    {
      onchange: () => {
        state = states.value;
        pages.first();
        update();
      },
    },
    [
      ['', 'all states'],
      ['wrong', 'not secured'],
      .../** @type {[string, string][]} */ (
        Object.entries(STATES).map(([name, { text }]) => [name, text])
      ),
    ],
  );
  states.value = state;
  const search = h('input', {
    type: 'search',
    value: find,
    autocomplete: 'off',
    spellcheck: 'false',
    oninput: () => {
      find = search.value.trim().toLowerCase();
      pages.first();
      update();
    },
  });
  const planNode = h('div', null);
  /** @type {Plan | null} */
  let plan = null;
  const floors = h('nav', { class: 'floors no-print', 'aria-label': 'Floors' });

  const update = () => {
    const here = store.at(building, floor);
    const shown = here.filter(
      (door) =>
        (FILTERS[state]?.(door) ?? (state === '' || door.state === state)) &&
        (find === '' || door.id.toLowerCase().includes(find)),
    );
    shown.sort((a, b) => trouble(a) - trouble(b) || comparePlaces(a.id, b.id));
    const all = here.length.toLocaleString('en');
    const text = doorsText(shown.length);
    setText(count, shown.length === here.length ? text : `${text} of ${all}`);
    list(
      body,
      pages.slice(shown),
      (door) => door.id,
      version,
      (door) => doorRow(door, titles),
    );
    if (building !== null && floor === null) {
      const places = store.sortedPlaces(building);
      list(
        floors,
        places,
        (each) => each.floor,
        (each) => `${each.counts.alarms}`,
        (each) =>
          h(
            'a',
            {
              href: link('doors', { building, floor: each.floor }),
            },
            each.floor ? `Floor ${each.floor}` : 'No floor',
            each.counts.alarms > 0 && badge('alarms', String(each.counts.alarms)),
          ),
      );
    }
    if (building === null || floor === null) return;
    const id = planOf(here);
    if (id !== plan?.id) {
      plan?.close();
      plan = id === null ? null : new Plan(id);
      fill(planNode, plan?.node);
    }
    plan?.show(here);
  };

  const tools = h(
    'div',
    { class: 'tools no-print' },
    field('State', states),
    field('Name', search),
  );
  const node = h(
    'div',
    null,
    isPlace &&
      building !== null &&
      h(
        'p',
        { class: 'no-print' },
        floor !== null &&
          h(
            'a',
            { href: link('doors', { building }) },
            building ? `All of building ${building}` : 'All doors without a building',
          ),
        floor !== null &&
          may.lockDown() && [
            ' · ',
            h('a', { href: link('lockdown', { building, floor }) }, 'Lock down this floor …'),
          ],
      ),
    floors,
    tools,
    count,
    planNode,
    tableNode,
    pages.node,
    building !== null && floor !== null && may.everything() && placing(building, floor),
  );
  update();
  return { title, node, update, close: () => plan?.close() };
}

/** @param {string} text */
function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** @param {Door} door */
function version(door) {
  return door.state === 'offline'
    ? `${door.revision} ${stateBadge(door).textContent}`
    : String(door.revision);
}

/** @param {Door} door @param {string[]} titles */
function doorRow(door, titles) {
  const mode = door.isLockedDown ? badge('lockdown') : door.mode;
  const old = door.isOnline ? '' : 'old';
  /** @param {string} text */
  const reported = (text) => h('span', { class: old }, text && (old ? `[${text}]` : text));
  return row(
    titles,
    [
      doorLink(door.id),
      [stateBadge(door), door.isDisabled && ' disabled'],
      alarmBadges(door),
      reported(door.lockState && `${door.lockState}${door.proof && `, proof ${door.proof}`}`),
      reported(door.doorState),
      mode,
      placeLink(door),
    ].slice(0, titles.length),
    `${door.state} ${door.alarms.length > 0 ? 'alarmed' : ''}`,
  );
}

/**
 * Gives a floor its plan: for those who set a building up.
 *
 * @param {string} building
 * @param {string} floor
 */
function placing(building, floor) {
  const outcome = outcomeRegion();
  const file = h('input', { type: 'file', accept: 'image/png,image/jpeg,image/webp' });
  const name = `${building}-${floor}`.toLowerCase().replace(/[^a-z0-9-]+/g, '-');
  const id = h('input', { value: name, autocomplete: 'off', spellcheck: 'false' });
  const door = h('select', null);
  const options = () =>
    fill(
      door,
      store.at(building, floor).map((each) => h('option', null, each.id)),
    );
  options();
  const upload = actionButton('Use this plan', {}, outcome, async () => {
    const [chosen] = file.files ?? [];
    if (!chosen) return { tone: 'bad', text: 'Choose an image first: PNG, JPEG or WebP, 2 MiB.' };
    if (chosen.size > MAX_PLAN) {
      const size = (chosen.size / 1_048_576).toFixed(2);
      const text = `${chosen.name} has ${size} MiB; a plan has at most 2 MiB: make it smaller.`;
      return { tone: 'bad', text };
    }
    await Plan.upload(id.value, chosen);
    return {
      tone: 'good',
      text: `Plan ${id.value} is stored. Place a door on it to see it here.`,
    };
  });
  const [left, top] = [0, 1].map(() => h('input', { type: 'number', min: 0, max: 100, value: 50 }));
  const place = actionButton('Place', {}, outcome, async () => {
    const [x, y] = [left, top].map((each) => Number(each?.value) / 100);
    await patchTwin(door.value, { tags: { plan: { id: id.value, x, y } } });
    return { tone: 'good', text: `${door.value} is placed. A click on the plan moves it too.` };
  });
  return h(
    'details',
    { class: 'no-print', ontoggle: options },
    h('summary', null, 'Plan of this floor'),
    h('div', { class: 'tools' }, field('Name of the plan', id), field('Image', file), upload),
    h(
      'div',
      { class: 'tools' },
      field('Door', door),
      left && field('% from the left', left),
      top && field('% from the top', top),
      place,
    ),
    outcome,
  );
}
