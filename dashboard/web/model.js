// A door as its twin shows it, and the changes of twins that events carry. Pure: no page, no
// network. Read leniently: a twin may belong to any device.

/** @param {unknown} value @returns {value is Json} */
export function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * The text of a value of a twin: texts as they are, all else as JSON.
 *
 * @param {unknown} value
 */
export function plain(value) {
  if (value === undefined || value === null) return '';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

let revisions = 0;

/** @param {Json} twin @returns {Door} */
export function readDoor(twin) {
  const desired = twin.properties?.desired ?? {};
  const reported = twin.properties?.reported ?? {};
  const door = isObject(reported.door) ? reported.door : null;
  const at = Date.parse(reported.$metadata?.door?.$lastUpdated ?? '');
  const isOnline = twin.connectionState === 'Connected';
  const secured = plain(door?.secured);
  const known = secured === 'secured' || secured === 'unsecured' ? secured : 'unknown';
  return {
    id: String(twin.deviceId),
    twin,
    revision: ++revisions,
    building: plain(desired.building ?? reported.building?.value),
    floor: plain(desired.floor ?? reported.floor?.value),
    isOnline,
    isDisabled: twin.status === 'disabled',
    hasReported: door !== null,
    state: isOnline ? known : 'offline',
    lockState: plain(door?.lockState),
    doorState: plain(door?.doorState),
    secured,
    proof: plain(door?.proof),
    mode: plain(door?.mode),
    alarms: readAlarms(door, twin.tags),
    isLockedDown: door?.mode === 'lockdown',
    lockdown: isObject(door?.lockdown) ? door.lockdown : null,
    desiredLockdown: isObject(desired.lockdown) ? desired.lockdown : null,
    heldBy: isObject(door?.heldBy) ? door.heldBy : null,
    reportedAt: Number.isNaN(at) ? null : at,
    isOlder: door !== null && reported.device?.features?.lockdown === undefined,
  };
}

/** @param {Json | null} door @param {unknown} tags */
function readAlarms(door, tags) {
  if (!isObject(door?.alarms)) return [];
  const notes = isObject(tags) && isObject(tags.alarm) ? tags.alarm : {};
  return Object.entries(door.alarms).map(([name, raised]) => {
    const since = typeof raised?.since === 'string' ? raised.since : null;
    const note = Object.hasOwn(notes, name) ? notes[name] : null;
    // An acknowledgement belongs to one raising.
    const isOfThis = isObject(note) && (note.raised ?? null) === since;
    return { name, since, acknowledged: isOfThis ? note : null };
  });
}

/**
 * Merges a patch as the hub does: null removes, objects merge, all else replaces.
 *
 * @param {Json} into changed in place
 * @param {Json} patch
 */
export function merge(into, patch) {
  for (const [key, value] of Object.entries(patch)) {
    // `into` is a plain object, where this name would reach the prototype of all objects.
    if (key === '__proto__') continue;
    if (value === null) delete into[key];
    else if (isObject(value)) {
      into[key] = merge(Object.hasOwn(into, key) && isObject(into[key]) ? into[key] : {}, value);
    } else into[key] = value;
  }
  return into;
}

/**
 * Applies the body of an event `updateTwin`. Each write of a twin adds one to its
 * version.
 *
 * @param {Json} twin changed in place
 * @param {Json} body
 * @returns {'applied' | 'old' | 'gap'} a gap wants the twin read again; nothing was changed then
 */
export function applyTwinEvent(twin, body) {
  const { tags, properties = {}, version } = body;
  if (typeof version !== 'number' || version > (twin.version ?? 0) + 1) return 'gap';
  if (version <= twin.version) return 'old';
  twin.properties ??= {};
  for (const name of ['desired', 'reported']) {
    if (isObject(properties[name])) {
      twin.properties[name] = merge(twin.properties[name] ?? {}, properties[name]);
    }
  }
  if (isObject(tags)) twin.tags = merge(twin.tags ?? {}, tags);
  twin.version = version;
  // The event carries no etag: who needs one reads the twin.
  delete twin.etag;
  return 'applied';
}

/** @param {Json} read @param {Json | undefined} known */
export function isCurrent(read, known) {
  return !known || (read.version ?? 0) >= (known.version ?? 0);
}

// What a desired property became, by the door's acknowledgement {value, ac, av, ad}.

/** Desired properties that every door acknowledges; doors of 0.1 do not know the other two. */
const ACKNOWLEDGED = ['building', 'floor', 'mode', 'settings', 'lockdown'];
const OF_WEEK = ['schedule', 'timed'];

/**
 * The desired properties that the door has refused or not applied yet.
 *
 * @param {Json} twin
 */
export function unapplied(twin) {
  const desired = twin.properties?.desired ?? {};
  const reported = twin.properties?.reported ?? {};
  const metadata = desired.$metadata ?? {};
  /** @type {{ key: string, refused: string | null }[]} */
  const acks = [];
  /** @param {string} key @param {any} wanted @param {any} written @param {any} answer */
  const add = (key, wanted, written, answer) => {
    const state = ackState(wanted, newest(written) ?? desired.$version ?? 0, answer);
    if (state !== 'applied') acks.push({ key, refused: state.refused });
  };
  for (const [key, wanted] of Object.entries(desired)) {
    if (key.startsWith('$')) continue;
    const answer = reported[key];
    const isOwn =
      ACKNOWLEDGED.includes(key) ||
      (!OF_WEEK.includes(key) && answer?.ac !== undefined && answer?.av !== undefined) ||
      (OF_WEEK.includes(key) && reported.device?.features?.[key] === true);
    if (!isOwn) continue;
    if ((key === 'settings' || key === 'timed') && isObject(wanted)) {
      for (const [name, value] of Object.entries(wanted)) {
        const whole = answer?.ac !== undefined ? answer : answer?.[name];
        add(`${key}.${name}`, value, metadata[key]?.[name], whole);
      }
    } else add(key, wanted, metadata[key], answer);
  }
  return acks;
}

/** @param {any} metadata @returns {number | null} */
function newest(metadata) {
  if (!isObject(metadata)) return null;
  let version = null;
  for (const [key, value] of Object.entries(metadata)) {
    const found = key === '$lastUpdatedVersion' ? value : newest(value);
    if (typeof found === 'number' && found > (version ?? -1)) version = found;
  }
  return version;
}

/** @param {any} wanted @param {number} written @param {any} answer */
function ackState(wanted, written, answer) {
  const isCurrent = typeof answer?.av === 'number' && answer.av >= written;
  if (wanted === null || wanted === undefined) {
    return answer === undefined || isCurrent ? 'applied' : { refused: null };
  }
  const applied = answer?.value;
  // A week is acknowledged by its digest alone, which does not say whether `now` was obeyed.
  const isSameWeek =
    wanted.now !== true && applied?.digest !== undefined && applied.digest === wanted.digest;
  const isSame = isSameWeek || (applied !== undefined && isEqual(applied, wanted));
  const code = answer?.ac;
  if (code === 202) return { refused: null };
  if (code >= 200 && code < 300 && (isCurrent || isSame)) return 'applied';
  if (code >= 300 && isCurrent) {
    return { refused: (plain(answer.ad) || 'no reason given').slice(0, 200) };
  }
  return { refused: null };
}

/** @param {any} a @param {any} b @returns {boolean} */
function isEqual(a, b) {
  if (!isObject(a) || !isObject(b)) return JSON.stringify(a) === JSON.stringify(b);
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && isEqual(a[key], b[key]))
  );
}

// Orders.

/** Alarms, the worst first. */
const ALARMS = [
  'forcedOpen',
  'lockForced',
  'tamper',
  'heldOpen',
  'jammed',
  'lockFault',
  'supplyFault',
  'sensorFault',
];

/**
 * How bad an alarm is: 0 is the worst. One that this page does not know comes after forced doors.
 *
 * @param {string} name
 */
function severity(name) {
  const index = ALARMS.indexOf(name);
  return index < 0 ? 2.5 : index;
}

/**
 * The alarms of these doors: not acknowledged ones first, then the worst, then the oldest.
 *
 * @param {Iterable<Door>} doors
 */
export function alarmQueue(doors) {
  const rows = [];
  for (const door of doors) for (const alarm of door.alarms) rows.push({ door, alarm });
  const time = (/** @type {Alarm} */ alarm) => alarm.since ?? '';
  return rows.sort(
    (a, b) =>
      Number(a.alarm.acknowledged !== null) - Number(b.alarm.acknowledged !== null) ||
      severity(a.alarm.name) - severity(b.alarm.name) ||
      compareTexts(time(a.alarm), time(b.alarm)) ||
      compareTexts(a.door.id, b.door.id),
  );
}

/** @param {string} a @param {string} b */
function compareTexts(a, b) {
  return a < b ? -1 : Number(a > b);
}

/**
 * Numbers first by their value, then texts; nothing comes last. As `doorctl status` sorts places.
 *
 * @param {string} a
 * @param {string} b
 */
export function comparePlaces(a, b) {
  const rank = (/** @type {string} */ text) => {
    if (text === '') return 2;
    return Number.isFinite(Number(text)) ? 0 : 1;
  };
  return rank(a) - rank(b) || (rank(a) === 0 ? Number(a) - Number(b) : compareTexts(a, b));
}

/**
 * 0: an alarm; 1: not known to be secured; 2: well.
 *
 * @param {Door} door
 */
export function trouble(door) {
  if (door.alarms.length > 0) return 0;
  return door.state === 'secured' ? 2 : 1;
}

// Conditions of the query language, as doorctl writes them.

/** @param {string} text */
export function quote(text) {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}

/**
 * A path with this value; a number may be stored as text.
 *
 * @param {string} path
 * @param {string} value
 */
export function equals(path, value) {
  const isNumber = /^-?(0|[1-9]\d*)(\.\d+)?$/.test(value);
  const isWord = value === 'true' || value === 'false';
  return (isNumber || isWord ? `${path} = ${value} OR ` : '') + `${path} = ${quote(value)}`;
}

/** @param {string} name @param {string} value */
export function tagCondition(name, value) {
  return equals(
    `tags.${name
      .split('.')
      .map((part) => `[[${part}]]`)
      .join('.')}`,
    value,
  );
}

/** @param {...string} conditions */
export function all(...conditions) {
  return conditions.length === 1
    ? String(conditions[0])
    : conditions.map((each) => `(${each})`).join(' AND ');
}
