// The words for states, events and answers: doorctl's. Pure.

import { isObject, plain } from './model.js';

/**
 * Mark and text of each state: a colour alone says nothing.
 *
 * @type {Record<State | 'alarms' | 'lockdown', { mark: string, text: string }>}
 */
export const STATES = {
  secured: { mark: '✓', text: 'secured' },
  unsecured: { mark: '○', text: 'unsecured' },
  unknown: { mark: '?', text: 'unknown' },
  offline: { mark: '–', text: 'offline' },
  alarms: { mark: '!', text: 'in alarm' },
  lockdown: { mark: '■', text: 'in lockdown' },
};

/**
 * What happened, and what to do: the guard's page.
 *
 * @type {Record<string, { what: string, act: string }>}
 */
export const ALARM_HELP = {
  forcedOpen: {
    what: 'the door opened without permission',
    act: 'Go there; close the door, which ends the alarm.',
  },
  heldOpen: { what: 'the door has been open for too long', act: 'Go there; close the door.' },
  lockForced: {
    what: 'the bolt left its position without permission',
    act: 'Go there; then lock the door again.',
  },
  jammed: {
    what: 'the bolt does not move as commanded',
    act: 'Check that nothing blocks it; try once more; then call the installer.',
  },
  tamper: { what: 'the enclosure is open', act: 'Go there; close it.' },
  lockFault: {
    what: 'the lock has a fault',
    act: 'Guard the door by other means; call the installer.',
  },
  sensorFault: {
    what: 'a sensor has a fault',
    act: 'Guard the door by other means; call the installer.',
  },
  supplyFault: {
    what: 'the power supply has a fault',
    act: 'Guard the door by other means; call the installer.',
  },
};

// Times.

/** @type {Intl.DateTimeFormat} */
let clock = formatter('UTC');

/** @param {string | undefined} name */
function formatter(name) {
  return new Intl.DateTimeFormat('en-GB', {
    timeZone: name,
    hourCycle: 'h23',
    weekday: 'short',
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    timeZoneName: 'short',
  });
}

/**
 * Shows times in this zone: in the browser's if it has no name, in UTC if the browser does not know
 * it. Returns the zone.
 *
 * @param {string | null} name
 */
export function useZone(name) {
  try {
    clock = formatter(name ?? undefined);
  } catch {
    clock = formatter('UTC');
  }
  return clock.resolvedOptions().timeZone;
}

/** @param {number} at */
function parts(at) {
  return Object.fromEntries(clock.formatToParts(at).map(({ type, value }) => [type, value]));
}

/**
 * Milliseconds of a time of a document; NaN if it is none.
 *
 * @param {unknown} time
 */
export function moment(time) {
  return typeof time === 'number' ? time : Date.parse(plain(time));
}

/** `2026-11-23T21:10:00Z`, rounded down. @param {number} at */
export function isoSecond(at) {
  return new Date(Math.floor(at / 1000) * 1000).toISOString().replace('.000Z', 'Z');
}

/** `Mon 2026-11-23 22:10:00 CET`. @param {unknown} time */
export function describeTime(time) {
  const at = moment(time);
  if (Number.isNaN(at)) return plain(time);
  const p = parts(at);
  return `${p.weekday} ${onClock(at)} ${p.timeZoneName}`;
}

/** `2026-11-23 22:10:00`. @param {unknown} time */
export function onClock(time) {
  const at = moment(time);
  if (Number.isNaN(at)) return plain(time);
  const p = parts(at);
  return `${p.year}-${p.month}-${p.day} ${p.hour}:${p.minute}:${p.second}`;
}

/**
 * A time of the last and next six days by its weekday: `Mon 22:10:00`.
 *
 * @param {unknown} time
 * @param {number} now
 */
export function soon(time, now) {
  const at = moment(time);
  if (Number.isNaN(at)) return plain(time);
  if (Math.abs(at - now) >= 144 * 3_600_000) return onClock(at);
  const p = parts(at);
  return `${p.weekday} ${p.hour}:${p.minute}:${p.second}`;
}

/** @param {number} milliseconds */
export function roughly(milliseconds) {
  const seconds = Math.max(0, Math.ceil(milliseconds / 1000));
  const units = [
    [Math.floor(seconds / 86_400), 'day'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ];
  const first = units.findIndex(([count]) => count !== 0);
  if (first < 0) return '0 s';
  return units
    .slice(first, first + 2)
    .filter(([count]) => count !== 0)
    .map(([count, unit]) => `${count} ${unit === 'day' && count !== 1 ? 'days' : unit}`)
    .join(' ');
}

/** A length in its largest unit: `45s`, `12m`, `3h`, `5d`. @param {number} milliseconds */
export function age(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  return seconds < 86_400 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86_400)}d`;
}

/** `in 3 h 12 min`, or `now`. @param {unknown} time @param {number} now */
export function countdown(time, now) {
  const left = moment(time) - now;
  return left > 0 ? `in ${roughly(left)}` : 'now';
}

// Doors.

/** @param {{ building: string, floor: string }} place */
export function placeText({ building, floor }) {
  if (!building && !floor) return 'no building';
  return [building && `building ${building}`, floor && `floor ${floor}`].filter(Boolean).join(', ');
}

/** @param {number} count */
export function doorsText(count) {
  return `${count.toLocaleString('en')} ${count === 1 ? 'door' : 'doors'}`;
}

/**
 * The first sentence of `why`.
 *
 * @param {Json} door reported `door`, or the answer to getState
 */
export function stateSentence(door) {
  const before = plain(door.displacedMode);
  return (
    `${plain(door.lockState)}, door ${plain(door.doorState)}, ${plain(door.secured)} (proof: ` +
    `${plain(door.proof)}), mode ${plain(door.mode)}${before && `, before it ${before}`}`
  );
}

/** `ID, ordered by BY, REASON, at TIME`. @param {Json} lockdown @param {number} now */
export function lockdownText(lockdown, now) {
  const { id, by, at, reason } = lockdown;
  return [
    plain(id) || 'without an id',
    by && `by ${plain(by)}`,
    reason && `“${plain(reason)}”`,
    at && `since ${soon(at, now)}`,
  ]
    .filter(Boolean)
    .join(', ');
}

/** @type {Record<number, string>} */
const SLOTS = {
  1: 'fire release',
  2: 'request to exit',
  3: 'local grant',
  5: 'lockdown',
  7: 'operator grant',
  8: 'operator hold',
  9: 'passage mode',
  16: 'weekly schedule',
};

/** @param {unknown} slot */
function slotName(slot) {
  return SLOTS[Number(slot)] ?? 'unknown to this page';
}

/**
 * The filled slots of an answer to getState, and the default; null if it has no array.
 *
 * @param {Json | null} answer
 */
export function slotRows(answer) {
  if (!Array.isArray(answer?.slots)) return null;
  const slots = answer.slots.filter(isObject).sort((a, b) => a.slot - b.slot);
  /** @type {SlotRow[]} */
  const rows = slots.map((slot, index) => ({
    slot: slot.slot,
    name: slotName(slot.slot),
    wants: plain(slot.want),
    by: [plain(slot.source), plain(slot.commandId)].filter(Boolean).join(': '),
    until: slot.until ?? null,
    effect: index === 0 ? 'decides' : 'overruled',
    command: plain(slot.commandId),
  }));
  rows.push({
    slot: null,
    name: 'default',
    wants: plain(answer.relinquishDefault),
    by: 'configuration',
    until: null,
    effect: rows.length === 0 ? 'decides' : 'overruled',
    command: '',
  });
  return rows;
}

/**
 * `slot 5 (lockdown) decides: locked; it overrules slot 8 (operator hold: released)`.
 *
 * @param {SlotRow[]} rows
 * @param {Json} answer
 * @param {number} now
 */
export function because(rows, answer, now) {
  const decides = /** @type {SlotRow} */ (rows.find((row) => row.effect === 'decides'));
  const end =
    decides.until === null
      ? ''
      : `, until ${describeTime(decides.until)}, ${countdown(decides.until, now)}`;
  const first =
    decides.slot === null
      ? `no slot is filled, so the door's default decides: ${decides.wants}`
      : `slot ${decides.slot} (${decides.name}) decides: ${decides.wants}`;
  const overruled = rows
    .filter((row) => row.effect === 'overruled' && row.slot !== null)
    .map((row) => `slot ${row.slot} (${row.name}: ${row.wants})`);
  return (
    first + end + (overruled.length ? `; it overrules ${overruled.join(', ')}` : '') + since(answer)
  );
}

/** @param {Json} door */
function since(door) {
  return door.heldBy?.since ? `, since ${describeTime(door.heldBy.since)}` : '';
}

/** @param {Door} door */
export function becauseReported(door) {
  if (!door.hasReported) return 'it has never reported';
  const held = door.heldBy;
  if (!held?.slot) return "no slot was filled, so the door's default decided";
  const until = held.until ? `, until ${describeTime(held.until)}` : '';
  return `slot ${held.slot} (${slotName(held.slot)}) decided${since({ heldBy: held })}${until}`;
}

/** @param {Json} week @param {number} now */
export function weekLine(week, now) {
  const want = (/** @type {Json} */ of) => plain(of.want) || 'default';
  const next = week.next?.at
    ? `; ${want(week.next)} from ${describeTime(week.next.at)}, ${countdown(week.next.at, now)}`
    : '';
  return `week ${plain(week.name) || '(unreadable)'} wants ${want(week)} now${next}`;
}

/**
 * Why a door in a lockdown is not secured; null if it is.
 *
 * @param {Door} door
 * @param {string} id of the lockdown; empty: any
 * @param {number} now
 */
export function notSecuredBecause(door, id, now) {
  const isIn = id === '' ? door.isLockedDown : door.lockdown?.id === id;
  const refusal = door.twin.properties?.reported?.lockdown;
  const isRefused = refusal?.ac >= 400 && door.desiredLockdown?.id === id;
  if (!door.isOnline) {
    const waits =
      door.desiredLockdown !== null && !isIn && !door.isOlder
        ? '; it locks down when it reconnects'
        : '';
    if (!door.hasReported) return `offline, and has never reported${waits}`;
    const ago = door.reportedAt === null ? '' : ` ${age(now - door.reportedAt)} ago`;
    return `offline; ${door.lockState}, door ${door.doorState}${ago}${waits}`;
  }
  if (isIn && door.secured === 'secured') return null;
  const reasons = [];
  const slot = Number(door.heldBy?.slot);
  if (slot < 5) reasons.push(`released by slot ${slot} (${slotName(slot)})`);
  if (door.doorState === 'open') reasons.push('the door is open: close it');
  for (const { name } of door.alarms) {
    const help = ALARM_HELP[name];
    reasons.push(`alarm ${name}${help ? `: ${help.what}` : ''}`);
  }
  if (isRefused) reasons.push(`it refused the lockdown: ${plain(refusal.ad)}`);
  else if (!isIn) reasons.push('it has not confirmed the lockdown');
  if (isIn && reasons.length === 0) {
    reasons.push(
      door.secured === 'unknown' && door.lockState === 'locked'
        ? 'locked, but no sensor proves it: look at the door'
        : `${door.lockState || 'lock state unknown'}, ${door.secured || 'unknown'}`,
    );
  }
  return reasons.join('; ');
}

// Answers of doors.

/** @param {string | undefined} method @param {any} [payload] */
export function goalOf(method, payload) {
  if (method === undefined) return 'changed';
  if (method === 'lockDoor' || method === 'lockdown') return 'secured';
  if (method === 'unlockDoor') return 'released';
  if (method === 'setMode') {
    const mode = payload?.mode;
    if (mode === 'lockdown' || mode === 'secure') return 'secured';
    if (mode === 'passage') return 'released';
  }
  return 'done';
}

/**
 * Judges a door's answer: the hub counts answers, an operator counts secured doors.
 *
 * @param {number} status
 * @param {any} payload
 * @param {Goal} goal
 * @returns {{ tone: 'good' | 'doubt' | 'bad', text: string }}
 */
export function judge(status, payload, goal) {
  const body = isObject(payload) ? payload : {};
  const isThere =
    (goal === 'secured' && body.secured === 'secured') ||
    (goal === 'released' && body.lockState === 'unlocked') ||
    goal === 'done' ||
    goal === 'changed';
  const isHeld = plain(body.Response).startsWith('setMode ') && isObject(body.heldBy);
  if (status >= 200 && status < 300) {
    if (isThere && (status !== 202 || (goal === 'done' && !isHeld))) {
      return { tone: 'good', text: goal };
    }
    if (status === 202 && isThere && !isHeld) {
      return { tone: 'good', text: `${goal}, unproven` };
    }
    return { tone: 'doubt', text: `accepted (${status}): ${pendingReason(body)}` };
  }
  const sentence = plain(body.Response).replace(/^.*? is refused: /s, '');
  const code = plain(body.error);
  return status >= 400 && status < 500
    ? { tone: 'bad', text: `refused (${status}): ${sentence || code || 'no reason given'}` }
    : { tone: 'bad', text: `failed (${status}): ${code || sentence || 'no reason given'}` };
}

/** @param {Json} body */
function pendingReason(body) {
  if (body.heldBy?.slot) return `held by slot ${body.heldBy.slot} (${slotName(body.heldBy.slot)})`;
  if (body.doorState === 'open') return 'door open';
  if (body.secured === 'unknown') return 'no sensor proves it';
  if (body.secured === undefined) return 'the answer has no lock state';
  return `${plain(body.lockState)}, ${plain(body.secured)}`;
}

/**
 * Progress of a timed entry at a door, by its report.
 *
 * @param {Json | undefined} entry reported `timed.ID`
 * @param {boolean} isOnline
 */
export function judgeEntry(entry, isOnline) {
  const away = isOnline ? '' : '; the door is offline';
  if (!entry) return { tone: 'plain', text: `sent, not confirmed${away}`, isArmed: false };
  if (entry.ac >= 300) {
    const text = `refused (${entry.ac}): ${plain(entry.ad) || 'no reason given'}`;
    return { tone: 'bad', text, isArmed: false };
  }
  const state = plain(entry.state);
  const isArmed = state === 'armed';
  const why = plain(entry.why) || 'no reason given';
  if (isArmed) return { tone: 'plain', text: `armed${away}`, isArmed };
  if (state === 'overruled') return { tone: 'bad', text: `overruled: ${why}`, isArmed };
  if (entry.error) return { tone: 'bad', text: `failed: ${plain(entry.error)}`, isArmed };
  if (entry.reached) return { tone: 'good', text: `${state}: reached`, isArmed };
  if (state === 'over') {
    const text = entry.at ? 'over, and never reached' : 'over: the door was off all the time';
    return { tone: 'bad', text, isArmed };
  }
  return { tone: 'doubt', text: `${state}: ${plain(entry.secured) || 'no result yet'}`, isArmed };
}

// Events.

const OMITTED = ['seq', 'boot', 'at', 'clock', 'kind', 'door', 'building', 'floor'];

/** Name of the event: from the door's message, else from the hub. @param {Json} event */
export function eventName(event) {
  const name = event.kind === 'telemetry' ? event.body?.kind : event.properties?.opType;
  return typeof name === 'string' ? name : 'message';
}

const BAD = ['alarmRaised', 'fireRelease', 'storageFault', 'stateInDoubt', 'jobFailed'];
const DOUBT = [
  'preAlarm',
  'inputFault',
  'alarmSuppressed',
  'alarmRepeated',
  'eventsLost',
  'stateDamaged',
  'overruled',
  'timedRepeated',
  'disarmed',
  'deviceDisconnected',
  'identityConflict',
];
const GOOD = ['alarmCleared', 'fireReset', 'storageRestored'];

/** @param {Json} event */
export function eventTone(event) {
  const name = eventName(event);
  if (BAD.includes(name) || (name === 'disarmed' && event.body?.want === 'locked')) return 'bad';
  if (DOUBT.includes(name)) return 'doubt';
  return GOOD.includes(name) ? 'good' : 'plain';
}

/** @param {Json} event */
export function eventDetails(event) {
  const { body } = event;
  let text = '';
  if (event.kind === 'connection') text = plain(body?.reason);
  else if (event.kind === 'twin') text = twinDetails(body);
  else if (event.kind === 'telemetry') text = messageDetails(event);
  if (event.repeated) text = `${text} (again)`.trim();
  return text.length > 240 ? `${text.slice(0, 240)}…` : text;
}

/** @param {Json} event */
function messageDetails({ body, bodyBase64, time }) {
  if (!isObject(body)) return bodyBase64 ? 'not JSON' : plain(body);
  if (typeof body.kind !== 'string') return plain(body);
  const texts = Object.entries(body)
    .filter(([key]) => !OMITTED.includes(key))
    .map(([key, value]) =>
      key === body.kind || key === 'alarm' ? plain(value) : `${key}=${plain(value)}`,
    );
  const at = body.clock === 'synchronized' ? moment(body.at) : NaN;
  if (moment(time) - at >= 60_000) texts.push(`(happened ${onClock(at)})`);
  return texts.join(' ');
}

/** @param {Json} body */
function twinDetails(body) {
  /** @type {string[]} */
  const texts = [];
  /** @type {[string, any][]} */
  const sections = [
    ['tags', body?.tags],
    ['desired', body?.properties?.desired],
    ['reported', body?.properties?.reported],
  ];
  for (const [title, section] of sections) {
    /** @type {string[]} */
    const leaves = [];
    flatten('', section, leaves);
    if (leaves.length > 0) texts.push(`${title} ${leaves.join(' ')}`);
  }
  return texts.join('; ');
}

/** @param {string} path @param {any} value @param {string[]} leaves */
function flatten(path, value, leaves) {
  if (isObject(value)) {
    for (const [key, member] of Object.entries(value)) {
      if (!key.startsWith('$')) flatten(path ? `${path}.${key}` : key, member, leaves);
    }
  } else if (value !== undefined) {
    leaves.push(`${path}=${value === null ? 'null' : plain(value)}`);
  }
}
