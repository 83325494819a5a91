// One door: its state, why it is so, what is planned, its events, and what may be commanded.

import {
  each,
  hubNow,
  hubTime,
  invoke,
  json,
  may,
  newId,
  query,
  send,
  session,
  shortened,
} from './api.js';
import { acknowledgeForm, alarmText } from './alarms.js';
import { actionButton, errorText, fill, h, list, outcomeRegion, redraw } from './dom.js';
import { EventParser, live } from './events.js';
import { isObject, plain, quote, unapplied } from './model.js';
import {
  alarmBadges,
  badge,
  field,
  placeLink,
  row,
  select,
  stateBadge,
  table,
  time,
} from './parts.js';
import { store } from './store.js';
import {
  because,
  becauseReported,
  countdown,
  describeTime,
  eventDetails,
  eventName,
  eventTone,
  goalOf,
  judge,
  lockdownText,
  moment,
  roughly,
  slotRows,
  soon,
  stateSentence,
  weekLine,
} from './words.js';

/** How far back the timeline goes, its longest length, and its length at first. */
const TIMELINE_MS = 24 * 3_600_000;
const MAX_EVENTS = 500;
const FEW_EVENTS = 30;

/** Seconds in which a command acts; a door refuses it later. */
const VALID_S = 300;

const SLOT_TITLES = ['Slot', 'Name', 'Wants', 'Effect', 'Until', 'By'];
const EVENT_TITLES = ['Time', 'Event', 'Details'];

/** @param {string} id */
export function door(id) {
  const state = h('div', null);
  const alarms = h('ul', { class: 'plain' });
  const frame = h('section', { class: 'state' }, state);
  const why = h('section', null);
  const orders = h('section', null);
  const later = h('section', null);
  const outcome = outcomeRegion();
  const abort = new AbortController();
  /** @type {Json | null} */
  let answer = null;
  let problem = '';
  let jobs = /** @type {Json[]} */ ([]);
  /** What the door reported when it was asked; null: not asked yet. @type {string | null} */
  let askedAt = null;

  const show = () => {
    const known = store.doors.get(id);
    const now = hubNow();
    if (!known) {
      fill(state, h('p', null, live.isLoaded ? `There is no door ${id}.` : 'Reading …'));
      return;
    }
    // Each question is a row of the audit log: the door is asked once, and when a person wants it.
    if (askedAt === null) ask();
    frame.className = `state ${known.isOnline ? '' : 'old'}`;
    const reported = known.twin.properties?.reported?.door;
    const at = known.reportedAt;
    const when = at === null ? 'before' : atText(at, now);
    redraw(state, `${known.revision} ${known.isOnline || when}`, () => [
      h(
        'p',
        { class: 'big' },
        stateBadge(known),
        alarmBadges(known),
        known.isLockedDown && badge('lockdown'),
      ),
      h('p', null, placeLink(known)),
      h(
        'p',
        null,
        known.hasReported
          ? [!known.isOnline && `Offline; ${when} it was: `, stateSentence(reported), '.']
          : 'It has never reported.',
      ),
      known.isDisabled && h('p', null, 'Its identity is disabled: it cannot connect.'),
      known.lockdown && h('p', null, `Lockdown ${lockdownText(known.lockdown, now)}.`),
    ]);
    list(
      alarms,
      known.alarms,
      (alarm) => alarm.name,
      (alarm) => JSON.stringify(alarm),
      (alarm) =>
        h('li', { class: 'alarm' }, alarmText(known, alarm), acknowledgeForm(id, alarm, outcome)),
    );
    const isOutdated = askedAt !== reportOf(known);
    const isAsked = known.isOnline && answer !== null && !isOutdated;
    const rows = isAsked ? slotRows(answer) : null;
    const reason = rows && answer ? because(rows, answer, now) : becauseReported(known);
    askButton.hidden = !known.isOnline || !may.call('getState');
    redraw(why, `${known.revision} ${reason} ${problem} ${JSON.stringify(answer)}`, () => [
      h('h2', null, 'Why'),
      h('p', null, reason, '.'),
      !rows &&
        known.isOnline &&
        h(
          'p',
          { class: 'note' },
          isOutdated || !may.call('getState')
            ? 'By its last report.'
            : problem || 'Asking the door …',
        ),
      rows && slotTable(rows, now),
    ]);
    redraw(orders, String(known.revision), () => desiredList(unapplied(known.twin)));
    const minute = Math.floor(now / 60_000);
    redraw(later, `${known.revision} ${jobs.length} ${JSON.stringify(answer)} ${minute}`, () => [
      h('h2', null, 'What comes next'),
      nextChanges(known, isAsked ? answer : null, jobs, now),
    ]);
  };

  const ask = async () => {
    const known = store.doors.get(id);
    if (!known || abort.signal.aborted) return;
    askedAt = reportOf(known);
    if (!known.isOnline || !may.call('getState')) return;
    try {
      const result = await invoke(id, 'getState', null);
      answer = isObject(result.payload) ? result.payload : null;
      problem = answer?.slots ? '' : `It answered getState with status ${result.status}.`;
    } catch (error) {
      answer = null;
      problem = `The door does not say: ${errorText(error)}`;
    }
    if (!abort.signal.aborted) show();
  };
  const asked = outcomeRegion();
  const attributes = { class: 'no-print', hidden: true };
  const askButton = actionButton('Ask the door', attributes, asked, ask);

  const update = (/** @type {Set<string> | null} */ changed) => {
    if (!changed || changed.has(id)) show();
  };

  const timeline = new Timeline(id, abort.signal);
  live.listeners.add(timeline.take);
  query(
    `SELECT * FROM devices.jobs WHERE devices.jobs.deviceId = ${quote(id)}`,
    (rows) => {
      jobs = jobs.concat(rows);
    },
    abort.signal,
  )
    .then(async () => {
      const waiting = jobs.filter((job) => ['scheduled', 'pending'].includes(job.status));
      jobs = await each(waiting, (job) => json('GET', `jobs/v2/${encodeURIComponent(job.jobId)}`));
      if (!abort.signal.aborted) show();
    })
    .catch(() => {
      jobs = [];
    });
  show();
  const node = h(
    'div',
    { class: 'door' },
    // What a person does comes before what there is to read: on a phone it is all on the screen.
    h('div', null, frame, commands(id), outcome, alarms, why, askButton, asked, orders, later),
    timeline.node,
  );
  return {
    title: id,
    node,
    update,
    close: () => {
      abort.abort();
      live.listeners.delete(timeline.take);
    },
  };
}

/** @param {Door} door */
function reportOf(door) {
  return JSON.stringify(door.twin.properties?.reported?.door ?? null);
}

/** @param {ReturnType<typeof unapplied>} acks */
function desiredList(acks) {
  if (acks.length === 0) return null;
  const rows = acks.map(({ key, refused }) =>
    refused === null
      ? h('li', null, badge('unknown', 'pending'), ` ${key} is not applied yet`)
      : h('li', null, badge('unsecured', 'refused'), ` ${key}: ${refused}`),
  );
  return [h('h2', null, 'Desired, and not applied'), h('ul', { class: 'plain' }, rows)];
}

/** @param {number} at @param {number} now */
function atText(at, now) {
  return `at ${describeTime(at)} (${roughly(now - at)} ago)`;
}

/** @param {SlotRow[]} rows @param {number} now */
function slotTable(rows, now) {
  const { node, body } = table('Filled slots; the lowest number decides', SLOT_TITLES);
  fill(
    body,
    rows.map((slot) =>
      row(
        SLOT_TITLES,
        [
          slot.slot === null ? '–' : slot.slot,
          slot.name,
          slot.wants,
          slot.effect,
          slot.until ? time(slot.until, soon(slot.until, now)) : slot.slot && 'no end given',
          slot.by,
        ],
        slot.effect,
      ),
    ),
  );
  return node;
}

/** @param {Door} known @param {Json | null} answer @param {Json[]} jobs @param {number} now */
function nextChanges(known, answer, jobs, now) {
  /** @type {{ at: number, text: string }[]} */
  const changes = [];
  /** @param {unknown} at @param {string} text */
  const add = (at, text) => {
    if (moment(at) > now) changes.push({ at: moment(at), text });
  };
  const { desired = {}, reported = {} } = known.twin.properties ?? {};
  for (const [id, entry] of Object.entries(isObject(desired.timed) ? desired.timed : {})) {
    if (!isObject(entry)) continue;
    const own = isObject(reported.timed) ? reported.timed[id] : null;
    const state = plain(own?.state) || 'not confirmed';
    add(entry.from, `${plain(entry.want)} (${id}, ${state})`);
    add(entry.until, `end of ${plain(entry.want)} (${id}, ${state})`);
  }
  for (const job of jobs) {
    const method = job.cloudToDeviceMethod?.methodName;
    add(job.startTime, `${method ?? 'change of the twin'} (job ${plain(job.jobId)})`);
  }
  const holds = slotRows(answer) ?? [];
  for (const slot of holds) {
    if (slot.until) add(slot.until, `end of ${slot.name} (${slot.wants})`);
  }
  const next = answer?.schedule?.next;
  if (next?.at) add(next.at, `the week wants ${plain(next.want) || 'the default'}`);
  changes.sort((a, b) => a.at - b.at);
  return [
    answer?.schedule && h('p', null, `${weekLine(answer.schedule, now)}.`),
    changes.length === 0
      ? h('p', null, 'Nothing is planned that this page knows.')
      : h(
          'ul',
          null,
          changes
            .slice(0, 10)
            .map((change) =>
              h(
                'li',
                null,
                time(change.at, describeTime(change.at)),
                ` (${countdown(change.at, now)}): `,
                change.text,
              ),
            ),
        ),
  ];
}

/** @param {string} id */
function commands(id) {
  const outcome = outcomeRegion();
  const reason = h('input', { maxlength: '200', autocomplete: 'off' });
  const lockFor = select({}, [
    ['', 'until relinquished'],
    ['5m', '5 minutes'],
    ['30m', '30 minutes'],
    ['2h', '2 hours'],
    ['8h', '8 hours'],
  ]);
  const unlockFor = select({}, [
    ['pulse', 'one passage'],
    ['5m', '5 minutes'],
    ['30m', '30 minutes'],
    ['2h', '2 hours'],
    ['', 'until relinquished'],
  ]);
  /** @param {string} method @param {string} word @param {Json} payload */
  const order = async (method, word, payload) => {
    const text = shortened(reason.value);
    const result = await invoke(
      id,
      method,
      {
        ...payload,
        commandId: newId(word),
        notAfter: hubTime(VALID_S),
        ...(text && { reason: text }),
      },
      text,
    );
    live.refresh();
    const { tone, text: became } = judge(result.status, result.payload, goalOf(method));
    const isWaiting = method === 'lockDoor' && became.endsWith('door open');
    return { tone, text: `${word} ${id}: ${became}${isWaiting ? '; close it, and it locks' : ''}` };
  };
  const parts = [
    may.call('lockDoor') &&
      h(
        'div',
        { class: 'tools' },
        field('Lock for', lockFor),
        actionButton('Lock', { class: 'primary' }, outcome, () =>
          order('lockDoor', 'lock', lockFor.value ? { lockTime: lockFor.value } : {}),
        ),
      ),
    may.call('unlockDoor') &&
      h(
        'div',
        { class: 'tools' },
        field('Unlock for', unlockFor),
        actionButton('Unlock', {}, outcome, () =>
          order(
            'unlockDoor',
            'unlock',
            unlockFor.value === 'pulse'
              ? { pulse: 'strike' }
              : unlockFor.value
                ? { unlockTime: unlockFor.value }
                : {},
          ),
        ),
      ),
    may.call('relinquish') &&
      h(
        'div',
        { class: 'tools' },
        actionButton(
          'Relinquish',
          { title: 'End what operators ask for; lower slots decide again' },
          outcome,
          () => order('relinquish', 'relinquish', {}),
        ),
      ),
  ].filter(Boolean);
  if (parts.length === 0) return null;
  return h(
    'section',
    { class: 'commands no-print' },
    h('h2', { class: 'hidden' }, 'Command'),
    field('Reason (optional)', reason),
    h('div', { class: 'buttons' }, parts),
    outcome,
  );
}

class Timeline {
  /** @type {Json[]} */
  #events = [];
  #shown = FEW_EVENTS;

  /** @param {string} id @param {AbortSignal} signal */
  constructor(id, signal) {
    const { node, body } = table(`Events of ${id}, newest first`, EVENT_TITLES);
    this.body = body;
    this.status = h('p', { class: 'note' }, 'Reading its events …');
    const onclick = () => {
      this.#shown = MAX_EVENTS;
      this.#show();
    };
    this.more = h('button', { class: 'no-print', hidden: true, onclick });
    this.node = h('section', null, h('h2', null, 'Events'), this.status, node, this.more);
    this.id = id;
    if (session.events) this.#read(signal);
    else this.status.textContent = 'This hub keeps no events.';
  }

  /** @param {Json} event */
  take = (event) => {
    if (event.deviceId !== this.id || !isShown(event)) return;
    this.#events.push(event);
    this.#show();
  };

  /** @param {AbortSignal} signal */
  async #read(signal) {
    const since = new Date(hubNow() - TIMELINE_MS).toISOString();
    const path = `events?follow=false&device=${encodeURIComponent(this.id)}&since=${since}`;
    try {
      const answer = await send('GET', path, { signal });
      const parser = new EventParser();
      for (const { event, data } of parser.push(await answer.text())) {
        if (event === 'end' || event === 'lost') continue;
        const document = JSON.parse(data);
        if (isShown(document)) this.#events.push(document);
      }
      this.status.textContent = 'Of the last 24 hours, without reports of the twin.';
    } catch (error) {
      if (signal.aborted) return;
      this.status.textContent = `Its events cannot be read: ${errorText(error)}`;
    }
    this.#show();
  }

  #show() {
    /** @type {Map<number, Json>} */
    const unique = new Map(this.#events.map((event) => [Number(event.id), event]));
    this.#events = [...unique.values()].sort((a, b) => a.id - b.id).slice(-MAX_EVENTS);
    const newest = [...this.#events].reverse().slice(0, this.#shown);
    this.more.hidden = newest.length === this.#events.length;
    this.more.textContent = `Show all ${this.#events.length}`;
    list(
      this.body,
      newest,
      (event) => String(event.id),
      () => '',
      (event) =>
        row(
          EVENT_TITLES,
          [
            time(event.time, soon(event.time, hubNow())),
            h('span', { class: 'event' }, eventName(event)),
            eventDetails(event),
          ],
          eventTone(event),
        ),
    );
  }
}

/** Whether people want to see an event: not each report of the twin. @param {Json} event */
function isShown(event) {
  return event.kind !== 'twin' || Boolean(event.body?.tags || event.body?.properties?.desired);
}
