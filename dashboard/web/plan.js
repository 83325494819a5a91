// The plan of a floor: an image with its doors at their places. The image needs the page's token,
// and the policy of the page allows no image from memory: it is painted onto a canvas.

import { errorText, fill, h, list, outcomeRegion, report } from './dom.js';
import { may, patchTwin, send } from './api.js';
import { isObject } from './model.js';
import { field, link, select } from './parts.js';
import { STATES } from './words.js';

/**
 * Where a door stands: `tags.plan {id, x, y}`, x and y from 0 to 1.
 *
 * @param {Door} door
 */
function spot(door) {
  const plan = door.twin.tags?.plan;
  if (!isObject(plan) || typeof plan.id !== 'string') return null;
  const { id, x, y } = plan;
  const isIn = [x, y].every((each) => typeof each === 'number' && each >= 0 && each <= 1);
  return isIn ? { id, x, y } : null;
}

/**
 * The plan that most of these doors stand on.
 *
 * @param {Door[]} doors
 */
export function planOf(doors) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const door of doors) {
    const at = spot(door);
    if (at) counts.set(at.id, (counts.get(at.id) ?? 0) + 1);
  }
  const [most] = [...counts].sort((a, b) => b[1] - a[1]);
  return most ? most[0] : null;
}

export class Plan {
  #canvas = h('canvas', { role: 'img' });
  #marks = h('ul', { class: 'marks' });
  #outcome = outcomeRegion();
  #abort = new AbortController();
  #door = select({}, [['', 'no door']]);
  #names = '';

  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.#canvas.setAttribute('aria-label', `Plan ${id}`);
    const sheet = h('div', { class: 'sheet' }, this.#canvas, this.#marks);
    this.node = h(
      'div',
      { class: 'plan' },
      sheet,
      may.everything() &&
        h('div', { class: 'tools no-print' }, field('Move (then click its place)', this.#door)),
      this.#outcome,
    );
    this.node.hidden = true;
    this.#canvas.addEventListener('click', (event) => this.#move(event));
    this.#load();
  }

  close() {
    this.#abort.abort();
  }

  async #load() {
    try {
      const path = `plans/${encodeURIComponent(this.id)}`;
      const answer = await send('GET', path, { signal: this.#abort.signal });
      const image = await createImageBitmap(await answer.blob());
      this.#canvas.width = image.width;
      this.#canvas.height = image.height;
      this.#canvas.getContext('2d')?.drawImage(image, 0, 0);
      this.node.hidden = false;
    } catch {
      // No plan of this id, or a hub that knows no plans: the table is enough.
    }
  }

  /** @param {MouseEvent} event */
  async #move(event) {
    const name = this.#door.value;
    if (!may.everything() || !name) return;
    const box = this.#canvas.getBoundingClientRect();
    const round = (/** @type {number} */ part) => Math.round(part * 10_000) / 10_000;
    const x = round((event.clientX - box.left) / box.width);
    const y = round((event.clientY - box.top) / box.height);
    report(this.#outcome, { tone: 'plain', text: `Moving ${name} …` });
    try {
      await patchTwin(name, { tags: { plan: { id: this.id, x, y } } });
      report(this.#outcome, { tone: 'good', text: `${name} is placed here.` });
    } catch (error) {
      report(this.#outcome, { tone: 'bad', text: `${name}: ${errorText(error)}` });
    }
  }

  /** @param {Door[]} doors of the floor */
  show(doors) {
    const names = doors.map((door) => door.id).join('\n');
    if (names !== this.#names) {
      this.#names = names;
      const before = this.#door.value;
      fill(
        this.#door,
        h('option', { value: '' }, 'no door'),
        doors.map((door) => h('option', null, door.id)),
      );
      this.#door.value = before;
    }
    const placed = doors.filter((door) => spot(door)?.id === this.id);
    list(
      this.#marks,
      placed,
      (door) => door.id,
      (door) => String(door.revision),
      (door) => {
        const state = door.alarms.length > 0 ? 'alarms' : door.state;
        const at = /** @type {{ x: number, y: number }} */ (spot(door));
        const node = h(
          'li',
          { class: `spot ${state} ${at.x > 0.5 ? 'right' : ''}` },
          h(
            'a',
            {
              href: link(`door/${encodeURIComponent(door.id)}`),
              title: `${door.id}: ${STATES[state].text}`,
            },
            h('span', { class: 'mark', 'aria-hidden': 'true' }, STATES[state].mark),
            h('span', { class: 'name' }, door.id),
            h('span', { class: 'hidden' }, `: ${STATES[state].text}`),
          ),
        );
        node.style.left = `${at.x * 100}%`;
        node.style.top = `${at.y * 100}%`;
        return node;
      },
    );
  }

  /** @param {string} id @param {File} file */
  static upload(id, file) {
    return send('PUT', `plans/${encodeURIComponent(id)}`, {
      body: file,
      headers: { 'content-type': file.type },
    });
  }
}
