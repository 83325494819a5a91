// Lockdown by building, floor or tag; the muster: who is not secured yet, and why; the end of it.

import { hubNow, may, shortened } from './api.js';
import {
  actionButton,
  block,
  confirmedButton,
  fill,
  h,
  list,
  outcomeRegion,
  setText,
} from './dom.js';
import { live } from './events.js';
import { all, comparePlaces, equals, isObject, plain, quote, tagCondition } from './model.js';
import { order } from './order.js';
import {
  badge,
  doorLink,
  field,
  pager,
  placeLink,
  row,
  select,
  stateBadge,
  table,
} from './parts.js';
import { store } from './store.js';
import { doorsText, lockdownText, moment, notSecuredBecause, placeText } from './words.js';

const END = 'All-clear: end lockdown …';
const TITLES = ['Door', 'State', 'Place', 'Why it is not secured'];

/** Secured doors of a lockdown that are named; the others are counted. */
const MAX_NAMES = 500;

/** Doors of a lockdown that was ordered here, until their twins show it. */
const ordered = /** @type {Map<string, { doors: Set<string>, lockdown: Json }>} */ (new Map());

const mayEnd = () => may.call('allClear') && may.desire('lockdown');

/** @param {URLSearchParams} parameters */
export function lockdown(parameters) {
  const musters = h('div', null);
  const none = h('p', null, badge('secured', 'no door is in lockdown'));
  const outcome = outcomeRegion();
  const log = h('ul', { class: 'plain log' });
  /** @param {string} text */
  const say = (text) => log.append(h('li', { class: 'bad' }, text));
  const form = may.lockDown() ? new Form(parameters, outcome, say, log) : null;
  /** @type {Map<string, { node: HTMLElement, update: (muster: Muster) => void }>} */
  const shown = new Map();
  const update = () => {
    const now = lockdownsNow();
    none.hidden = now.length > 0;
    form?.update();
    for (const muster of now) {
      let view = shown.get(muster.id);
      if (!view) {
        view = musterView(muster, outcome, say, log);
        shown.set(muster.id, view);
      }
      view.update(muster);
    }
    for (const id of shown.keys()) if (!now.some((muster) => muster.id === id)) shown.delete(id);
    list(
      musters,
      now,
      (muster) => muster.id,
      () => '',
      (muster) => /** @type {{ node: HTMLElement }} */ (shown.get(muster.id)).node,
    );
  };
  update();
  const heading = h('h2', { class: 'hidden' }, 'Lockdowns');
  const node = h('div', null, outcome, log, heading, none, musters, form?.node);
  return { title: 'Lockdown', node, update };
}

export function lockdownsNow() {
  /** @type {Map<string, Muster>} */
  const musters = new Map();
  /** @param {string} id @param {Json} lockdown @param {Door} door */
  const add = (id, lockdown, door) => {
    const muster = musters.get(id) ?? { id, lockdown, doors: [] };
    musters.set(id, muster);
    muster.doors.push(door);
  };
  const counted = new Set();
  for (const door of store.of(store.lockedDown)) {
    const { desiredLockdown: desired, lockdown: own } = door;
    // From now on its twin shows the end too, even if another page orders it.
    for (const each of [desired, own]) ordered.get(plain(each?.id))?.doors.delete(door.id);
    if (desired && !hasEnded(door, plain(desired.id))) add(plain(desired.id), desired, door);
    else if (door.isLockedDown) add(plain(own?.id), own ?? {}, door);
    else continue;
    counted.add(door.id);
  }
  for (const [id, { doors, lockdown: about }] of ordered) {
    for (const door of store.of(doors)) {
      if (!counted.has(door.id) && !hasEnded(door, id)) add(id, about, door);
    }
  }
  return [...musters.values()].sort(
    (a, b) => (moment(b.lockdown.at) || 0) - (moment(a.lockdown.at) || 0),
  );
}

/** @param {Door} door @param {string} id */
function hasEnded(door, id) {
  const answer = door.twin.properties?.reported?.lockdown;
  return !door.isLockedDown && answer?.ac === 200 && answer.value?.id === id;
}

/** @param {Muster} muster */
function conditionOf({ id }) {
  if (id === '') {
    return (
      "properties.reported.door.mode = 'lockdown' AND " +
      'NOT is_defined(properties.reported.door.lockdown)'
    );
  }
  return (
    `properties.desired.lockdown.id = ${quote(id)} OR ` +
    `properties.reported.door.lockdown.id = ${quote(id)}`
  );
}

/** @param {Door[]} doors */
export function whereText(doors) {
  const buildings = new Set(doors.map((door) => door.building));
  const floors = new Set(doors.map((door) => door.floor));
  const [building] = buildings;
  const [floor] = floors;
  if (buildings.size > 1) return `${buildings.size} buildings`;
  return placeText({ building: building ?? '', floor: floors.size === 1 ? (floor ?? '') : '' });
}

/**
 * @param {Muster} first
 * @param {Element} outcome
 * @param {(text: string) => void} say
 * @param {Element} log
 */
function musterView(first, outcome, say, log) {
  const heading = h('h3', null);
  const about = h('p', null);
  const state = h('p', { class: 'big', role: 'status' });
  const bar = h('progress', { 'aria-label': 'Secured doors' });
  const { node: tableNode, body } = table('Not secured', TITLES);
  const secured = h('p', { class: 'doors' });
  const summary = h('summary', null);
  const details = h('details', { ontoggle: () => update(current) }, summary, secured);
  let current = first;
  const pages = pager(() => update(current));
  const end =
    mayEnd() &&
    confirmedButton(END, 'End this lockdown?', 'Yes, end it', outcome, async () => {
      fill(log);
      const { doors } = current;
      const isWhole = await order(
        'allClear',
        { condition: conditionOf(current), doors },
        '',
        say,
        () => ordered.delete(current.id),
      );
      live.refresh();
      return isWhole
        ? { tone: 'good', text: `All-clear is ordered for ${doorsText(doors.length)}.` }
        : { tone: 'bad', text: 'All-clear did not reach every door: see below.' };
    });
  /** @param {Muster} muster */
  const update = (muster) => {
    current = muster;
    const now = hubNow();
    const open = muster.doors
      .map((door) => ({ door, why: notSecuredBecause(door, muster.id, now) }))
      .filter(({ why }) => why !== null)
      .sort((a, b) => comparePlaces(a.door.id, b.door.id));
    const count = muster.doors.length - open.length;
    setText(heading, `Lockdown of ${whereText(muster.doors)}`);
    setText(about, `${lockdownText(muster.lockdown, now)}.`);
    setText(
      state,
      open.length === 0
        ? `All ${doorsText(count)} are secured.`
        : `${doorsText(open.length)} not secured; ${count} of ${muster.doors.length} secured.`,
    );
    state.className = `big ${open.length === 0 ? 'good' : 'bad'}`;
    bar.max = muster.doors.length;
    bar.value = count;
    tableNode.hidden = open.length === 0;
    list(
      body,
      pages.slice(open),
      ({ door }) => door.id,
      ({ door, why }) => `${door.revision} ${why}`,
      ({ door, why }) =>
        row(
          TITLES,
          [doorLink(door.id), stateBadge(door), placeLink(door), why],
          door.alarms.length > 0 ? 'alarmed' : door.state,
        ),
    );
    details.hidden = count === 0;
    setText(summary, `Secured doors (${count})`);
    if (!details.open) return;
    const isOpen = new Set(open.map(({ door }) => door.id));
    const names = muster.doors.map((door) => door.id).filter((id) => !isOpen.has(id));
    names.sort(comparePlaces);
    list(
      secured,
      names.slice(0, MAX_NAMES),
      (id) => id,
      () => '',
      (id) => doorLink(id),
    );
    if (count > MAX_NAMES) secured.append(h('span', null, `and ${count - MAX_NAMES} more`));
  };
  const node = h(
    'section',
    { class: 'muster' },
    heading,
    about,
    state,
    bar,
    end && h('div', { class: 'no-print' }, end),
    tableNode,
    pages.node,
    details,
  );
  update(first);
  return { node, update };
}

class Form {
  #by = select({}, [
    ['place', 'building and floor'],
    ['tag', 'tag'],
  ]);
  #building = h('select', null);
  #floor = h('select', null);
  #tag = h('select', null);
  #value = h('select', null);
  #reason = h('input', { maxlength: '200', autocomplete: 'off' });
  #typed = h('input', { autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off' });
  #typeText = h('span', null);
  #count = h('p', { role: 'status' });
  #button;
  #places = '';
  /** The place of the address or of the last choice, which may not have been read yet. */
  #wanted;

  /**
   * @param {URLSearchParams} parameters
   * @param {Element} outcome
   * @param {(text: string) => void} say
   * @param {Element} log
   */
  constructor(parameters, outcome, say, log) {
    this.#button = actionButton('Lock down', { class: 'danger' }, outcome, () =>
      this.#order(say, log),
    );
    const byPlace = h(
      'div',
      { class: 'tools' },
      field('Building', this.#building),
      field('Floor', this.#floor),
    );
    const byTag = h(
      'div',
      { class: 'tools', hidden: true },
      field('Tag', this.#tag),
      field('Value', this.#value),
    );
    this.#wanted = { building: parameters.get('building'), floor: parameters.get('floor') };
    const onchange = (/** @type {Event} */ { target }) => {
      const isMoved = target === this.#building;
      byPlace.hidden = this.#by.value !== 'place';
      byTag.hidden = !byPlace.hidden;
      this.#wanted = { building: this.#building.value, floor: isMoved ? null : this.#floor.value };
      if (isMoved) this.#fillPlaces();
      if (target === this.#by) this.#fillTags();
      if (target === this.#tag) this.#fillValues();
      this.#show();
    };
    this.#typed.addEventListener('input', () => this.#check());
    this.#typed.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') this.#button.click();
    });
    this.node = h(
      'section',
      { class: 'order no-print' },
      h('h2', null, 'Lock down'),
      h('div', { class: 'tools', onchange }, field('Doors by', this.#by), byPlace, byTag),
      this.#count,
      h(
        'div',
        { class: 'tools' },
        field('Reason (optional)', this.#reason),
        h('label', { class: 'field' }, this.#typeText, this.#typed),
        this.#button,
      ),
      h(
        'p',
        { class: 'note' },
        'The doors lock against entry and refuse unlocks. Exit buttons and ' +
          'fire release still open them. A reader that switches the lock itself still opens its ' +
          'door.',
      ),
    );
    this.update();
  }

  update() {
    const places = [...store.places.keys()].sort().join();
    if (places !== this.#places) {
      this.#places = places;
      this.#fillPlaces();
    }
    this.#show();
  }

  #fillPlaces() {
    const { building, floor } = this.#wanted;
    const texts = (/** @type {string[]} */ names) =>
      names.filter(Boolean).map((name) => /** @type {[string, string]} */ ([name, name]));
    options(this.#building, texts(store.buildings()), building);
    const floors = store.sortedPlaces(this.#building.value).map((place) => place.floor);
    options(this.#floor, [['', 'all floors'], ...texts(floors)], floor);
  }

  #fillTags() {
    /** @type {Set<string>} */
    const names = new Set();
    for (const door of store.doors.values()) {
      for (const [name, value] of Object.entries(door.twin.tags ?? {})) {
        if (!isObject(value)) names.add(name);
      }
    }
    options(
      this.#tag,
      [...names].sort(comparePlaces).map((name) => [name, name]),
      this.#tag.value,
    );
    this.#fillValues();
  }

  #fillValues() {
    const values = [...store.doors.values()].map((door) =>
      plain(door.twin.tags?.[this.#tag.value]),
    );
    const unique = [...new Set(values)].filter(Boolean).sort(comparePlaces);
    options(
      this.#value,
      unique.map((value) => [value, value]),
      this.#value.value,
    );
  }

  #selection() {
    if (this.#by.value === 'tag') {
      const [name, value] = [this.#tag.value, this.#value.value];
      const doors =
        value === ''
          ? []
          : [...store.doors.values()].filter((door) => plain(door.twin.tags?.[name]) === value);
      return {
        condition: tagCondition(name, value),
        doors,
        name: `tag ${name} = ${value}`,
        word: value,
      };
    }
    const [building, floor] = [this.#building.value, this.#floor.value];
    const conditions = [equals('properties.desired.building', building)];
    if (floor !== '') conditions.push(equals('properties.desired.floor', floor));
    const desired = (/** @type {Door} */ door) => door.twin.properties?.desired ?? {};
    // The hub selects by what is assigned, not by what a door reports.
    const doors = store
      .at(building, floor || null)
      .filter(
        (door) =>
          plain(desired(door).building) === building &&
          (floor === '' || plain(desired(door).floor) === floor),
      );
    const name = `building ${building}${floor && `, floor ${floor}`}`;
    return { condition: all(...conditions), doors, name, word: building };
  }

  #show() {
    const { doors, name, word } = this.#selection();
    const away = doors.filter((door) => !door.isOnline);
    setText(
      this.#count,
      doors.length === 0 || !live.isLoaded
        ? live.isLoaded
          ? 'No door is selected.'
          : 'Reading the doors …'
        : `${doorsText(doors.length)}: ${name}.${
            away.length === 0
              ? ' All are online.'
              : ` ${away.length} offline: each locks down when it reconnects.`
          }`,
    );
    setText(this.#typeText, `Type ${word || '…'} to confirm`);
    const older = doors.filter((door) => door.isOlder);
    if (older.length > 0) {
      const text = may.call('setMode')
        ? 'lock down only while they are online'
        : 'do not know a lockdown, and this policy may not set their mode';
      this.#count.append(` ${doorsText(older.length)} of version 0.1 ${text}.`);
    }
    this.#check();
  }

  #check() {
    const { doors, word } = this.#selection();
    // Of doors that are still being read, some would be missed.
    const isSure =
      live.isLoaded &&
      doors.length > 0 &&
      this.#typed.value.trim().toLowerCase() === word.toLowerCase();
    block(this.#button, !isSure);
  }

  /** @param {(text: string) => void} say @param {Element} log @returns {Promise<Outcome>} */
  async #order(say, log) {
    fill(log);
    const { name, ...selection } = this.#selection();
    const reason = shortened(this.#reason.value);
    const isWhole = await order('lockdown', selection, reason, say, (id) => {
      ordered.set(id, {
        doors: new Set(selection.doors.map((door) => door.id)),
        lockdown: { id, reason, at: new Date(hubNow()).toISOString() },
      });
      // The muster and what became of the order are at the top.
      scrollTo(0, 0);
    });
    live.refresh();
    this.#typed.value = '';
    this.#check();
    return isWhole
      ? { tone: 'good', text: `The lockdown of ${name} is ordered.` }
      : { tone: 'bad', text: `The lockdown of ${name} did not reach every door: see below.` };
  }
}

/**
 * Replaces the options of a select, and keeps the chosen one if it is still there.
 *
 * @param {HTMLSelectElement} node
 * @param {[string, string][]} values
 * @param {string | null} chosen
 */
function options(node, values, chosen) {
  fill(
    node,
    values.map(([value, text]) => h('option', { value }, text)),
  );
  if (values.some(([value]) => value === chosen)) node.value = /** @type {string} */ (chosen);
}
