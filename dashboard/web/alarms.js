// The queue of alarms, the worst first. An acknowledgement belongs to one raising and clears
// nothing.

import { HubError, hubNow, hubTime, may, patchTwin, session, twin } from './api.js';
import { actionButton, h, list, outcomeRegion } from './dom.js';
import { alarmQueue, readDoor } from './model.js';
import { badge, doorLink, placeLink, time } from './parts.js';
import { store } from './store.js';
import { ALARM_HELP, age, describeTime, moment, onClock } from './words.js';

export function alarms() {
  const items = h('ol', { class: 'plain queue' });
  const empty = h('p', null, badge('secured', 'no door is in alarm'));
  const outcome = outcomeRegion();
  const update = () => {
    const queue = alarmQueue(store.of(store.alarmed));
    empty.hidden = queue.length > 0;
    list(
      items,
      queue,
      ({ door, alarm }) => JSON.stringify([door.id, alarm.name]),
      ({ door, alarm }) =>
        JSON.stringify([alarm, door.isOnline, door.building, door.floor, sinceText(alarm)]),
      ({ door, alarm }) =>
        h(
          'li',
          {
            class: `alarm ${alarm.acknowledged ? 'acknowledged' : ''}`,
          },
          h(
            'h2',
            null,
            badge(alarm.acknowledged ? 'offline' : 'alarms', alarm.name),
            ' ',
            doorLink(door.id),
          ),
          h('p', null, placeLink(door)),
          alarmText(door, alarm),
          acknowledgeForm(door.id, alarm, outcome),
        ),
    );
  };
  update();
  const node = h(
    'div',
    null,
    h(
      'p',
      { class: 'note' },
      'An alarm ends when its cause is over. An acknowledgement says that ' +
        'somebody takes care; it ends nothing.',
    ),
    outcome,
    empty,
    items,
  );
  return { title: 'Alarms', node, update };
}

/** @param {Alarm} alarm */
function sinceText(alarm) {
  if (alarm.since === null) return 'the door had no clock when it was raised';
  const passed = hubNow() - moment(alarm.since);
  return `since ${describeTime(alarm.since)} (${age(passed)} ago)`;
}

/** @param {Door} door @param {Alarm} alarm */
export function alarmText(door, alarm) {
  const help = ALARM_HELP[alarm.name];
  const note = alarm.acknowledged;
  return [
    h(
      'p',
      null,
      h('strong', null, alarm.name),
      `: ${help?.what ?? 'an alarm of a newer door'}, `,
      sinceText(alarm),
      !door.isOnline && '; offline now',
    ),
    help && h('p', null, help.act),
    note &&
      h(
        'p',
        { class: 'note' },
        `Acknowledged by ${note.by ?? 'somebody'}`,
        note.at && [', ', time(note.at, onClock(note.at))],
        note.note && `: “${note.note}”`,
      ),
  ];
}

/** What people have typed and not sent, by door and alarm: a changed row keeps it. */
const drafts = /** @type {Map<string, string>} */ (new Map());

/**
 * @param {string} id
 * @param {Alarm} alarm
 * @param {Element} outcome outside of the alarm, whose text changes with its acknowledgement
 */
export function acknowledgeForm(id, alarm, outcome) {
  if (!may.tag('alarm') || alarm.acknowledged) return null;
  const key = JSON.stringify([id, alarm.name, alarm.since]);
  const note = h('input', {
    maxlength: '200',
    autocomplete: 'off',
    placeholder: 'Note, such as who goes',
    'aria-label': `Note about ${alarm.name} at ${id}`,
    oninput: () => drafts.set(key, note.value),
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key === 'Enter') button.click();
    },
  });
  note.value = drafts.get(key) ?? '';
  const button = actionButton('Acknowledge', {}, outcome, async () => {
    const result = await acknowledge(id, alarm, note.value.trim());
    if (result.tone === 'good') drafts.delete(key);
    return result;
  });
  return h('div', { class: 'tools no-print' }, note, button);
}

/**
 * Writes an acknowledgement, unless the alarm or its acknowledgement changed since it was read.
 *
 * @param {string} id
 * @param {Alarm} alarm
 * @param {string} note
 * @returns {Promise<Outcome>}
 */
async function acknowledge(id, alarm, note) {
  const read = await twin(id);
  store.put(read);
  const now = readDoor(read).alarms.find((each) => each.name === alarm.name);
  if (!now || now.since !== alarm.since) {
    return { tone: 'doubt', text: `${alarm.name} is over; nothing was written.` };
  }
  if (now.acknowledged) {
    const by = now.acknowledged.by ?? 'somebody';
    return { tone: 'doubt', text: `${by} acknowledged it before you; nothing was written.` };
  }
  const entry = {
    raised: alarm.since,
    by: session.policy,
    note: note || null,
    at: hubTime(),
  };
  try {
    store.put(await patchTwin(id, { tags: { alarm: { [alarm.name]: entry } } }, read.etag));
  } catch (error) {
    if (!(error instanceof HubError) || error.status !== 412) throw error;
    store.put(await twin(id));
    return {
      tone: 'doubt',
      text:
        'Somebody changed this door at the same moment; nothing was written. Look, and try ' +
        'again.',
    };
  }
  return { tone: 'good', text: `${alarm.name} at ${id} is acknowledged.` };
}
