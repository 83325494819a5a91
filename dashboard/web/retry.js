// What `doorctl jobs retry` does: the command of a job again, for the doors that did not get there.
// The command keeps its id and its end, so a door that has obeyed already does nothing twice. Pure.

import { isObject, plain, quote } from './model.js';
import { describeTime, isoSecond, moment } from './words.js';

/** Longest condition of a job: a query of 8,192 characters also counts its doors. */
const MAX_CONDITION = 8_192 - 'SELECT COUNT() AS doors FROM devices WHERE '.length;

/** Seconds that a job runs if it does not say, and in which a staged door may come online. */
const RUN_S = 300;
const STAGED_CONNECT_S = 120;

/** @type {Record<string, number>} */
const UNITS = { d: 86_400, h: 3600, m: 60, s: 1 };

/** Seconds of a length such as `1h 30m` or a number; NaN if it is none. @param {unknown} length */
export function seconds(length) {
  if (typeof length === 'number') return length;
  const text = plain(length).replaceAll(' ', '');
  if (/^\d+$/.test(text)) return Number(text);
  if (!/^(\d+[dhms])+$/.test(text)) return NaN;
  return [...text.matchAll(/(\d+)([dhms])/g)].reduce(
    (sum, [, count, unit]) => sum + Number(count) * (UNITS[String(unit)] ?? NaN),
    0,
  );
}

/**
 * @param {Json} job what the doors were called or changed by
 * @param {[string, Json] | null} entry the timed entry that it gave to doors
 * @param {number} now
 * @returns {{ action: Json, runs: number } | { problem: string }}
 */
export function repeated(job, entry, now) {
  const runs = job.maxExecutionTimeInSeconds || RUN_S;
  const notAfter = isoSecond(now + runs * 1000);
  if (job.updateTwin && !entry) {
    const { properties, tags } = job.updateTwin;
    const desired = properties?.desired;
    const updateTwin = { etag: '*', ...(desired && { properties: { desired } }), tags };
    return { action: { type: 'scheduleUpdateTwin', updateTwin }, runs };
  }
  if (entry) {
    const [commandId, { want, until, slot, reason }] = entry;
    if (slot === 16) {
      return { problem: `${commandId} stands in place of the week, which no call does.` };
    }
    const payload = {
      ...(until && { until }),
      commandId,
      notAfter,
      ...(reason && { reason }),
    };
    const call = {
      methodName: want === 'locked' ? 'lockDoor' : 'unlockDoor',
      connectTimeoutInSeconds: STAGED_CONNECT_S,
      responseTimeoutInSeconds: STAGED_CONNECT_S,
      payload,
    };
    return ended(moment(until), now) ?? { action: method(call), runs };
  }
  const call = job.cloudToDeviceMethod;
  if (!call) return { problem: 'It neither calls a method nor changes a twin.' };
  const { connectTimeoutInSeconds: connect = 0, responseTimeoutInSeconds: response = 30 } = call;
  const again = { ...call, responseTimeoutInSeconds: Math.max(connect, response) };
  if (!isObject(call.payload)) return { action: method(again), runs };
  const { until, lockTime, unlockTime } = call.payload;
  const length = seconds(lockTime ?? unlockTime);
  const end = Number.isNaN(moment(until))
    ? moment(job.startTime) + (runs + length) * 1000
    : moment(until);
  const payload = { ...call.payload, ...('notAfter' in call.payload && { notAfter }) };
  return ended(end, now) ?? { action: method({ ...again, payload }), runs };
}

/** @param {Json} call */
function method(call) {
  return { type: 'scheduleDeviceMethod', cloudToDeviceMethod: call };
}

/** @param {number} end @param {number} now */
function ended(end, now) {
  if (Number.isNaN(end) || end > now) return null;
  return { problem: `Its action ended at ${describeTime(end)}: create a new job.` };
}

/**
 * Conditions that name these doors, each short enough for a job.
 *
 * @param {string[]} doors
 */
export function splitNames(doors) {
  /** @type {string[][]} */
  const parts = [];
  let length = Infinity;
  for (const name of doors.map(quote)) {
    length += name.length + 2;
    if (length > MAX_CONDITION) {
      parts.push([]);
      length = 'deviceId IN []'.length + name.length + 2;
    }
    parts.at(-1)?.push(name);
  }
  return parts.map((names) => `deviceId IN [${names.join(', ')}]`);
}
