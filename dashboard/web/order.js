// Orders a lockdown or its end, on the wire as `doorctl lockdown` and `all-clear` do: a method job
// calls the doors, which is fast and proves the result, and a twin job changes the desired property
// `lockdown`, which is lasting and reaches offline doors. A door acts once per id, whichever comes
// first. Where a hub takes no job, doors are called and changed one by one: no failure to create a
// job may keep doors from being called.

import {
  HubError,
  each,
  hubTime,
  invoke,
  json,
  may,
  methodCall,
  newId,
  patchTwin,
  reasonHeader,
  session,
} from './api.js';
import { errorText } from './dom.js';
import { all } from './model.js';
import { goalOf, judge } from './words.js';

/** Doors that know neither the property nor the two methods: their agent is of 0.1. */
const OLDER =
  'is_defined(properties.reported.door) AND NOT ' +
  'is_defined(properties.reported.device.features.lockdown)';

/** Seconds that the jobs run, and in which a call acts. */
const RUN_S = 300;

/** How long the twin job waits for the creation of the method job, and may take after it. */
const TWIN_JOB_DELAY_MS = 1000;
const TWIN_JOB_MS = 30_000;

/** Doors that are called at once without a job. */
const CALLS = 16;

/**
 * @param {'lockdown' | 'allClear'} verb
 * @param {DoorSelection} selection
 * @param {string} reason
 * @param {(text: string) => void} say reports a failure
 * @param {(id: string) => void} begun called with the id before anything is sent
 * @returns {Promise<boolean>} whether every door was called and changed
 */
export async function order(verb, selection, reason, say, begun) {
  const isLockdown = verb === 'lockdown';
  const id = newId(verb.toLowerCase());
  const [by, at] = [session.policy, hubTime()];
  const header = {
    commandId: id,
    notAfter: hubTime(RUN_S),
    ...(reason && { reason }),
  };
  const property = isLockdown ? { id, by, at, reason: reason || null } : null;
  begun(id);
  const call = { method: verb, payload: { ...header, by, at } };
  const forOlder = isLockdown
    ? { method: 'setMode', payload: { ...header, mode: 'lockdown' } }
    : { method: 'relinquish', payload: { ...header, slot: 5 } };
  const calling = callDoors(id, selection, call, forOlder, reason, say);
  const delay = new Promise((resolve) => {
    setTimeout(resolve, TWIN_JOB_DELAY_MS);
  });
  const storing = Promise.race([calling.started, delay]).then(() =>
    store(`${id}-twin`, selection, { lockdown: property }, reason, say),
  );
  const [called, stored] = await Promise.all([calling.done, storing]);
  return called && stored;
}

/**
 * @typedef {{ method: string, payload: Json }} Call
 * @param {string} id
 * @param {DoorSelection} selection
 * @param {Call} call
 * @param {Call} forOlder
 * @param {string} reason
 * @param {(text: string) => void} say reports a failure
 */
function callDoors(id, { condition, doors }, call, forOlder, reason, say) {
  const older = may.call(forOlder.method) ? doors.filter((door) => door.isOlder) : [];
  /** @type {[string, string, Call, Door[]][]} */
  const groups =
    older.length === 0
      ? [[id, condition, call, doors]]
      : older.length === doors.length
        ? [[id, condition, forOlder, doors]]
        : [
            [
              `${id}-known`,
              all(condition, `NOT (${OLDER})`),
              call,
              doors.filter((door) => !door.isOlder),
            ],
            [`${id}-older`, all(condition, OLDER), forOlder, older],
          ];
  let isWhole = true;
  const created = groups.map(async ([job, where, { method, payload }, own]) => {
    if (doors.length === 1) return [method, payload, own];
    try {
      await createJob(
        job,
        {
          type: 'scheduleDeviceMethod',
          cloudToDeviceMethod: methodCall(method, payload),
        },
        where,
        reason,
      );
      return null;
    } catch (error) {
      say(`Cannot create job ${job}: ${errorText(error)}. Calling each door directly.`);
      return [method, payload, own];
    }
  });
  const started = Promise.all(created);
  const done = started.then(async (direct) => {
    for (const group of direct) {
      if (group === null) continue;
      const [method, payload, own] = /** @type {[string, Json, Door[]]} */ (group);
      // Offline doors use their time up: they come last.
      const sorted = [...own].sort((a, b) => Number(b.isOnline) - Number(a.isOnline));
      await each(
        sorted,
        async (door) => {
          try {
            const { status, payload: answer } = await invoke(door.id, method, payload, reason);
            const { tone, text } = judge(status, answer, goalOf(method, payload));
            if (tone === 'bad') isWhole = false;
            if (tone !== 'good') say(`${door.id}: ${text}`);
          } catch (error) {
            isWhole = false;
            say(`${door.id}: ${errorText(error)}`);
          }
        },
        CALLS,
      );
    }
    return isWhole;
  });
  return { started, done };
}

/**
 * @param {string} id
 * @param {DoorSelection} selection
 * @param {Json} desired
 * @param {string} reason
 * @param {(text: string) => void} say reports a failure
 */
async function store(id, { condition, doors }, desired, reason, say) {
  const missed = (/** @type {string} */ why) => {
    say(`The desired lockdown is not changed at every door: ${why}. Repeat it.`);
    return false;
  };
  if (doors.length > 1) {
    try {
      const updateTwin = { etag: '*', properties: { desired } };
      await createJob(id, { type: 'scheduleUpdateTwin', updateTwin }, condition, reason);
      return await endOf(id, doors.length, missed);
    } catch (error) {
      const isBusy =
        error instanceof HubError && error.code === 'ThrottlingMaxActiveJobCountExceeded';
      if (!isBusy) return missed(errorText(error));
    }
  }
  const failed = /** @type {string[]} */ ([]);
  await each(
    doors,
    async (door) => {
      try {
        await patchTwin(door.id, { properties: { desired } }, undefined, reasonHeader(reason));
      } catch (error) {
        failed.push(`${door.id}: ${errorText(error)}`);
      }
    },
    CALLS,
  );
  return failed.length === 0 || missed(failed.join('; '));
}

/** @param {string} id @param {number} count @param {(why: string) => boolean} missed */
async function endOf(id, count, missed) {
  const end = Date.now() + TWIN_JOB_MS;
  for (;;) {
    const job = await json('GET', `jobs/v2/${encodeURIComponent(id)}`);
    const { succeededCount = 0, failedCount = 0 } = job.deviceJobStatistics ?? {};
    if (['completed', 'failed', 'cancelled'].includes(job.status)) {
      if (job.status === 'completed' && failedCount === 0 && succeededCount >= count) return true;
      return missed(`job ${id} is ${job.status}, ${succeededCount} of ${count} doors were changed`);
    }
    if (Date.now() >= end) return missed(`job ${id} is still ${job.status}`);
    await new Promise((resolve) => {
      setTimeout(resolve, 500);
    });
  }
}

/**
 * @param {string} jobId
 * @param {Json} action
 * @param {string} queryCondition
 * @param {string} reason
 */
async function createJob(jobId, action, queryCondition, reason) {
  await json('PUT', `jobs/v2/${encodeURIComponent(jobId)}`, {
    body: { jobId, ...action, queryCondition, maxExecutionTimeInSeconds: RUN_S },
    headers: reasonHeader(reason),
  });
}
