// Parts that several views show.

import { h } from './dom.js';
import { hubNow } from './api.js';
import { STATES, age, describeTime, placeText } from './words.js';

/**
 * The address of a view: `#/doors?building=43&floor=3`.
 *
 * @param {string} path
 * @param {Record<string, string | null | undefined>} [parameters]
 */
export function link(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => typeof value === 'string');
  const query = new URLSearchParams(/** @type {[string, string][]} */ (given)).toString();
  return `#/${path}${query && `?${query}`}`;
}

/** @param {string} id @param {Record<string, any>} [attributes] */
export function doorLink(id, attributes = {}) {
  return h('a', { href: link(`door/${encodeURIComponent(id)}`), ...attributes }, id);
}

/** @param {keyof typeof STATES} state @param {string} [text] */
export function badge(state, text = STATES[state].text) {
  return h(
    'span',
    { class: `badge ${state}` },
    h('span', { class: 'mark', 'aria-hidden': 'true' }, STATES[state].mark),
    text,
  );
}

/** @param {Door} door */
export function stateBadge(door) {
  return badge(door.state, door.state === 'offline' ? offlineText(door) : undefined);
}

/** @param {Door} door */
function offlineText(door) {
  if (!door.hasReported) return 'offline, never reported';
  const ago = door.reportedAt === null ? '' : ` ${age(hubNow() - door.reportedAt)} ago`;
  return `offline, ${door.lockState || 'lock unknown'}${ago}`;
}

/** @param {Door} door */
export function alarmBadges(door) {
  return door.alarms.map(({ name, acknowledged }) => {
    const node = badge('alarms', acknowledged ? `${name} (acknowledged)` : name);
    if (acknowledged) node.className = 'badge acknowledged';
    return node;
  });
}

/** @param {{ building: string, floor: string }} place */
export function placeLink(place) {
  const { building, floor } = place;
  return h('a', { href: link('doors', { building, floor }) }, placeText(place));
}

/** @param {unknown} at @param {string} text */
export function time(at, text) {
  return h('time', { title: describeTime(at) }, text);
}

/**
 * A table whose head is read with each cell. The rows go into its body.
 *
 * @param {string} caption
 * @param {string[]} titles
 */
export function table(caption, titles) {
  const body = h('tbody', null);
  const head = h(
    'tr',
    null,
    titles.map((title) => h('th', { scope: 'col' }, title)),
  );
  const node = h(
    'div',
    { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    h('table', null, h('caption', null, caption), h('thead', null, head), body),
  );
  return { node, body };
}

/**
 * A row; on a phone each cell shows the title of its column.
 *
 * @param {string[]} titles
 * @param {Child[]} cells the first one is the row's head
 * @param {string} [className]
 */
export function row(titles, cells, className = '') {
  return h(
    'tr',
    { class: className === 'plain' ? null : className },
    cells.map((cell, index) => {
      const title = { 'data-title': titles[index] };
      return index === 0 ? h('th', { scope: 'row', ...title }, cell) : h('td', title, cell);
    }),
  );
}

const ROWS = 100;

/** @param {() => void} update */
export function pager(update) {
  let page = 0;
  let count = 0;
  const text = h('span', null);
  /** @param {number} by @param {string} label */
  const button = (by, label) =>
    h(
      'button',
      {
        onclick: () => {
          page = Math.min(Math.max(page + by, 0), Math.ceil(count / ROWS) - 1);
          update();
        },
      },
      label,
    );
  const node = h(
    'p',
    { class: 'pager', hidden: true },
    button(-1, '‹ Previous'),
    text,
    button(1, 'Next ›'),
  );
  return {
    node,
    first: () => {
      page = 0;
    },
    /** @template T @param {T[]} items */
    slice: (items) => {
      count = items.length;
      page = Math.min(page, Math.max(0, Math.ceil(count / ROWS) - 1));
      node.hidden = count <= ROWS;
      const start = page * ROWS;
      const end = Math.min(start + ROWS, count);
      text.textContent = ` ${start + 1} to ${end} of ${count.toLocaleString('en')} `;
      return items.slice(start, end);
    },
  };
}

/** @param {string} label @param {HTMLElement} input */
export function field(label, input) {
  return h('label', { class: 'field' }, h('span', null, label), input);
}

/** @param {Record<string, any>} attributes @param {[string, string][]} options value and text */
export function select(attributes, options) {
  return h(
    'select',
    attributes,
    options.map(([value, text]) => h('option', { value }, text)),
  );
}
