// The hub's jobs, live; one job with its doors. A staged job is one line: what gave doors their
// timed entry, and what calls the others.

import { each, hubNow, json, may, newId, patchTwin, query, send, session } from './api.js';
import { confirmedButton, errorText, fill, h, list, outcomeRegion, report } from './dom.js';
import { live } from './events.js';
import { isObject, plain, quote } from './model.js';
import { doorLink, link, pager, row, table, time } from './parts.js';
import { splitNames, repeated } from './retry.js';
import { store } from './store.js';
import {
  countdown,
  describeTime,
  doorsText,
  goalOf,
  judge,
  judgeEntry,
  moment,
  soon,
} from './words.js';

const MAX_JOBS = 500;

/** Pause between reads of a running job's doors, and of the list where there are no events. */
const READ_AFTER_MS = 1000;
const POLL_MS = 15_000;

const TITLES = ['Job', 'What', 'Status', 'Doors', 'Start', 'Action'];
const DOOR_TITLES = ['Door', 'Outcome'];

/** @type {Map<string, Json>} */
const known = new Map();

/** @param {Json} job @returns {[string, Json] | null} */
function entryOf(job) {
  const timed = job.updateTwin?.properties?.desired?.timed;
  const entries = Object.entries(isObject(timed) ? timed : {});
  const [first] = entries;
  if (!first || entries.length > 1 || !isObject(first[1])) return null;
  const suffix = job.jobId.startsWith(first[0]) ? job.jobId.slice(first[0].length) : '?';
  return suffix === '' || suffix.startsWith('-stage') ? [first[0], first[1]] : null;
}

/** @param {Iterable<Json>} jobs */
function grouped(jobs) {
  /** @type {Map<string, JobGroup>} */
  const groups = new Map();
  const sorted = [...jobs].sort((a, b) => moment(b.createdTime) - moment(a.createdTime));
  for (const job of sorted) {
    const entry = entryOf(job);
    const id = entry?.[0] ?? job.jobId;
    /** @type {JobGroup} */
    const group = groups.get(id) ?? { id, jobs: [], staged: null };
    groups.set(id, group);
    group.jobs.push(job);
    if (entry) [, group.staged] = entry;
  }
  return [...groups.values()];
}

const OVER = ['completed', 'failed', 'cancelled'];

/** @param {JobGroup} group @param {number} now */
function statusOf(group, now) {
  const statuses = group.jobs
    .filter((job) => !group.staged || !entryOf(job))
    .map((job) => plain(job.status));
  const active = statuses.find((status) => !OVER.includes(status));
  if (active) return active;
  if (group.staged) {
    if (statuses.includes('cancelled')) return 'cancelled';
    if (moment(group.staged.from) > now) return 'scheduled';
    const end = group.staged.until;
    return end && moment(end) > now ? 'running' : 'completed';
  }
  return statuses.find((status) => status !== 'completed') ?? 'completed';
}

/** @param {string} id */
function armed(id) {
  const doors = [...store.doors.values()].filter(
    (door) => door.twin.properties?.desired?.timed?.[id],
  );
  const entry = (/** @type {Door} */ door) => door.twin.properties?.reported?.timed?.[id];
  return {
    all: doors,
    count: doors.filter((door) => entry(door)?.state === 'armed').length,
    entry,
  };
}

/** @param {JobGroup} group */
function doorCounts(group) {
  const texts = [];
  if (group.staged) {
    const { all, count } = armed(group.id);
    const isBefore = moment(group.staged.from) > hubNow();
    if (all.length === 0) texts.push('no door has it');
    else if (isBefore) texts.push(`armed ${count} of ${all.length}`);
    else {
      const reached = all.filter(
        (door) => door.twin.properties.reported?.timed?.[group.id]?.reached,
      );
      texts.push(`${reached.length} of ${all.length} reached by themselves`);
    }
  }
  for (const job of group.jobs) {
    if (group.staged && entryOf(job)) continue;
    const counts = job.deviceJobStatistics;
    // Before its start a job has selected no doors.
    if (!counts || counts.deviceCount === 0) continue;
    const word = job.cloudToDeviceMethod ? 'answered' : 'changed';
    texts.push(
      [
        `${counts.succeededCount} of ${counts.deviceCount} ${word}`,
        counts.failedCount > 0 && `${counts.failedCount} failed`,
      ]
        .filter(Boolean)
        .join(', '),
    );
  }
  return texts.join('; ');
}

/** @param {JobGroup} group */
function whatText(group) {
  if (group.staged) return group.staged.want === 'locked' ? 'lock, staged' : 'unlock, staged';
  const [job] = group.jobs;
  const method = job?.cloudToDeviceMethod?.methodName;
  if (method) return plain(method);
  const { desired, tags } = { ...job?.updateTwin?.properties, tags: job?.updateTwin?.tags };
  const names = [
    ...Object.keys(desired ?? {}),
    ...Object.keys(tags ?? {}).map((name) => `tag ${name}`),
  ];
  return names.length > 0 ? `change ${names.join(', ')}` : 'change of twins';
}

/** @param {JobGroup} group */
function startOf(group) {
  return group.staged?.from ?? group.jobs[0]?.startTime ?? group.jobs[0]?.createdTime;
}

/** @param {AbortSignal} signal */
async function readJobs(signal) {
  let continuation = '';
  /** @type {Json[]} */
  const jobs = [];
  do {
    /** @type {Record<string, string>} */
    const headers = { 'x-ms-max-item-count': '100' };
    if (continuation) headers['x-ms-continuation'] = continuation;
    const path = 'jobs/v2/query?api-version=2021-04-12';
    const answer = await send('GET', path, { headers, signal });
    continuation = answer.headers.get('x-ms-continuation') ?? '';
    jobs.push(...(await answer.json()));
  } while (continuation && jobs.length < MAX_JOBS);
  known.clear();
  for (const job of jobs) known.set(job.jobId, job);
}

/**
 * @param {() => void} onChange
 * @param {AbortSignal} signal
 * @param {(error: unknown) => void} onError
 */
function follow(onChange, signal, onError) {
  let timer = 0;
  const read = () =>
    readJobs(signal).then(onChange, (error) => {
      if (!signal.aborted) onError(error);
    });
  const take = (/** @type {Json} */ event) => {
    if (event.kind !== 'job') return;
    const job = known.get(event.jobId);
    if (job) {
      Object.assign(job, event.body);
      onChange();
      return;
    }
    clearTimeout(timer);
    timer = setTimeout(read, READ_AFTER_MS / 4);
  };
  live.listeners.add(take);
  const poll = session.events ? 0 : setInterval(read, POLL_MS);
  signal.addEventListener('abort', () => {
    live.listeners.delete(take);
    clearTimeout(timer);
    clearInterval(poll);
  });
  read();
}

export function jobs() {
  const abort = new AbortController();
  const outcome = outcomeRegion();
  const status = h('p', { class: 'note' }, 'Reading the jobs …');
  const { node: tableNode, body } = table('Jobs, the newest first', TITLES);
  const pages = pager(() => update());
  const update = () => {
    const now = hubNow();
    const groups = grouped(known.values());
    // What runs or waits comes first.
    const isOver = (/** @type {JobGroup} */ group) => Number(OVER.includes(statusOf(group, now)));
    groups.sort((a, b) => isOver(a) - isOver(b));
    list(
      body,
      pages.slice(groups),
      (group) => group.id,
      (group) => `${statusOf(group, now)} ${doorCounts(group)} ${startText(group, now)}`,
      (group) =>
        row(TITLES, [
          h('a', { href: link(`jobs/${encodeURIComponent(group.id)}`) }, group.id),
          whatText(group),
          statusText(group, now),
          doorCounts(group),
          startText(group, now),
          [cancelButton(group, now, outcome), retryButton(group, now, outcome)],
        ]),
    );
  };
  const changed = () => {
    status.textContent = known.size > 0 ? '' : 'There are no jobs.';
    update();
  };
  follow(changed, abort.signal, (error) => {
    status.textContent = `The jobs cannot be read: ${errorText(error)}`;
  });
  const node = h('div', null, status, outcome, tableNode, pages.node);
  return { title: 'Jobs', node, update, close: () => abort.abort() };
}

/** @param {JobGroup} group */
function hasFailed(group) {
  return group.jobs.some((job) => job.deviceJobStatistics?.failedCount > 0);
}

/** @param {JobGroup} group @param {number} now */
function statusText(group, now) {
  const status = statusOf(group, now);
  const failed = hasFailed(group);
  const tone = status === 'failed' || failed ? 'bad' : status === 'completed' ? 'good' : 'plain';
  const reason = group.jobs.map((job) => plain(job.failureReason)).find(Boolean);
  return h(
    'span',
    { class: tone },
    status,
    failed && status === 'completed' && ', with failed doors',
    reason && `: ${reason}`,
  );
}

/** @param {JobGroup} group @param {number} now */
function startText(group, now) {
  const start = startOf(group);
  if (!start) return '';
  const left = moment(start) > now ? `, ${countdown(start, now)}` : '';
  return soon(start, now) + left;
}

/** @param {JobGroup} group @param {number} now @param {Element} outcome */
function cancelButton(group, now, outcome) {
  const isOver = OVER.includes(statusOf(group, now));
  const calls = group.jobs.filter((job) => !entryOf(job));
  const mayCancel = session.bounds?.access !== 'read' && (!group.staged || may.desire('timed'));
  if (isOver || !mayCancel) return null;
  return confirmedButton('Cancel', `Cancel ${group.id}?`, 'Yes, cancel it', outcome, async () => {
    const stop = session.events ? '?stop=true' : '';
    const running = group.jobs.filter((job) => !OVER.includes(plain(job.status)));
    // The calls first: they are for all doors without the entry.
    running.sort((a, b) => Number(calls.includes(b)) - Number(calls.includes(a)));
    for (const job of running) {
      await json('POST', `jobs/v2/${encodeURIComponent(job.jobId)}/cancel${stop}`);
    }
    if (!group.staged) return { tone: 'good', text: `${group.id} is cancelled.` };
    const failed = await disarm(group.id);
    return failed.length === 0
      ? { tone: 'good', text: `${group.id} is cancelled at every door.` }
      : { tone: 'bad', text: `${group.id}: not taken from ${failed.join('; ')}` };
  });
}

/**
 * What called or changed the doors, and the timed entry that others got.
 *
 * @param {JobGroup} group
 */
function commandOf(group) {
  const job = group.jobs.find((each) => !entryOf(each)) ?? group.jobs[0];
  return { job: job ?? {}, entry: job ? entryOf(job) : null };
}

/** @param {JobGroup} group */
function mayRepeat(group) {
  const { job, entry } = commandOf(group);
  if (entry) return may.call(entry[1].want === 'locked' ? 'lockDoor' : 'unlockDoor');
  if (job.cloudToDeviceMethod) return may.call(plain(job.cloudToDeviceMethod.methodName));
  const { properties, tags } = job.updateTwin ?? {};
  return (
    Object.keys(properties?.desired ?? {}).every(may.desire) &&
    Object.keys(tags ?? {}).every(may.tag)
  );
}

/** @param {JobGroup} group @param {number} now @param {Element} outcome */
function retryButton(group, now, outcome) {
  const status = statusOf(group, now);
  // What was staged can be retried from its start on: the doors have acted, or did not.
  const hasActed =
    group.staged !== null &&
    status === 'running' &&
    group.jobs.every((job) => OVER.includes(plain(job.status)));
  const isEarly = status === 'cancelled' && moment(startOf(group)) > now;
  const failed = status === 'failed' || hasFailed(group);
  const isOver = OVER.includes(status) || hasActed;
  if (!isOver || isEarly || !mayRepeat(group)) return null;
  // A staged job counts no failures: its doors report them.
  if (!failed && !group.staged && status !== 'cancelled') return null;
  return confirmedButton(
    'Retry',
    `Repeat ${group.id} at its doors that did not get there?`,
    'Yes, retry',
    outcome,
    () => retry(group),
  );
}

/** @param {JobGroup} group @returns {Promise<Outcome>} */
async function retry(group) {
  /** @type {Map<string, Json>} */
  const records = new Map();
  await readRecords(group, records);
  const rows = doorRows(group, records);
  const { job, entry } = commandOf(group);
  if (rows.length === 0) {
    return { tone: 'bad', text: `${group.id} called no door: there is nothing to retry.` };
  }
  const call = job.cloudToDeviceMethod;
  const goal = entry
    ? entry[1].want === 'locked'
      ? 'secured'
      : 'released'
    : goalOf(call?.methodName, call?.payload);
  const names = rows
    .filter(({ door: id, tone, text }) => {
      const door = store.doors.get(id);
      // Who overruled an unlock decided later than the job.
      if (!door || tone === 'good' || (goal === 'released' && text.startsWith('overruled'))) {
        return false;
      }
      const isThere =
        (goal === 'secured' && door.secured === 'secured') ||
        (goal === 'released' && door.lockState === 'unlocked');
      // The report of a door that did not answer may be old and proves nothing.
      return tone !== 'doubt' || !isThere;
    })
    .map(({ door }) => door);
  if (names.length === 0) {
    return { tone: 'good', text: `No door of ${group.id} is left to retry.` };
  }
  const planned = repeated(job, entry, hubNow());
  if ('problem' in planned) return { tone: 'bad', text: planned.problem };
  const id = newId('retry');
  const parts = splitNames(names);
  for (const [index, queryCondition] of parts.entries()) {
    const jobId = parts.length === 1 ? id : `${id}-${index + 1}`;
    await json('PUT', `jobs/v2/${encodeURIComponent(jobId)}`, {
      body: {
        jobId,
        ...planned.action,
        queryCondition,
        maxExecutionTimeInSeconds: planned.runs,
      },
    });
  }
  return { tone: 'good', text: `Job ${id} repeats it at ${doorsText(names.length)}.` };
}

/** @param {string} id */
async function disarm(id) {
  const failed = /** @type {string[]} */ ([]);
  await each(armed(id).all, async (door) => {
    try {
      await patchTwin(door.id, { properties: { desired: { timed: { [id]: null } } } });
    } catch (error) {
      failed.push(`${door.id}: ${errorText(error)}`);
    }
  });
  return failed;
}

/** @param {string} id */
export function job(id) {
  const abort = new AbortController();
  const outcome = outcomeRegion();
  const head = h('div', null, h('p', null, 'Reading …'));
  const { node: tableNode, body } = table(`Doors of ${id}, failed ones first`, DOOR_TITLES);
  const pages = pager(() => update());
  /** @type {Map<string, Json>} */
  const records = new Map();
  let timer = 0;
  let seen = '';
  const update = () => {
    const group = grouped(known.values()).find(
      (each) => each.id === id || each.jobs.some((job) => job.jobId === id),
    );
    if (!group) {
      if (known.size > 0) fill(head, h('p', null, `The hub has no job ${id}.`));
      return;
    }
    const now = hubNow();
    const [first] = group.jobs;
    const text = `${statusOf(group, now)} ${doorCounts(group)} ${startText(group, now)}`;
    if (text !== seen) {
      seen = text;
      fill(
        head,
        h('p', null, whatText(group), ': ', statusText(group, now), '. ', doorCounts(group)),
        h('p', null, 'Start: ', time(startOf(group), describeTime(startOf(group)))),
        first?.queryCondition && h('p', null, 'Doors: ', h('code', null, first.queryCondition)),
        h(
          'p',
          { class: 'no-print' },
          cancelButton(group, now, outcome),
          retryButton(group, now, outcome),
        ),
      );
      clearTimeout(timer);
      timer = setTimeout(read, records.size === 0 ? 0 : READ_AFTER_MS, group);
    }
    const rows = doorRows(group, records);
    list(
      body,
      pages.slice(rows),
      (each) => each.door,
      (each) => each.text,
      (each) => row(DOOR_TITLES, [doorLink(each.door), h('span', { class: each.tone }, each.text)]),
    );
  };
  const read = async (/** @type {JobGroup} */ group) => {
    try {
      await readRecords(group, records, abort.signal);
      update();
    } catch (error) {
      if (!abort.signal.aborted) report(outcome, { tone: 'bad', text: errorText(error) });
    }
  };
  follow(update, abort.signal, (error) => report(outcome, { tone: 'bad', text: errorText(error) }));
  const node = h(
    'div',
    null,
    h('p', { class: 'no-print' }, h('a', { href: link('jobs') }, 'All jobs')),
    head,
    outcome,
    tableNode,
    pages.node,
  );
  return {
    title: `Job ${id}`,
    node,
    update,
    close: () => {
      abort.abort();
      clearTimeout(timer);
    },
  };
}

/** @param {JobGroup} group @param {Map<string, Json>} records @param {AbortSignal} [signal] */
async function readRecords(group, records, signal) {
  for (const each of group.jobs) {
    if (entryOf(each)) continue;
    await query(
      `SELECT * FROM devices.jobs WHERE devices.jobs.jobId = ${quote(each.jobId)}`,
      (rows) => {
        for (const record of rows) records.set(`${each.jobId} ${record.deviceId}`, record);
      },
      signal,
    );
  }
}

const TONES = ['bad', 'doubt', 'plain', 'good'];

/**
 * What the job came to at each door: by its answer, or by what it did itself.
 *
 * @param {JobGroup} group
 * @param {Map<string, Json>} records
 */
function doorRows(group, records) {
  /** @type {Map<string, { door: string, text: string, tone: string }>} */
  const rows = new Map();
  if (group.staged) {
    const { all, entry } = armed(group.id);
    for (const door of all) {
      rows.set(door.id, { door: door.id, ...judgeEntry(entry(door), door.isOnline) });
    }
  }
  for (const record of records.values()) {
    const answer = record.outcome?.deviceMethodResponse;
    const call = group.jobs.find((each) => each.jobId === record.jobId)?.cloudToDeviceMethod;
    const goal = goalOf(call?.methodName, call?.payload);
    /** @type {{ tone: string, text: string }} */
    let result = { tone: 'plain', text: plain(record.status) };
    if (record.status === 'completed') {
      result = answer ? judge(answer.status, answer.payload, goal) : { tone: 'good', text: goal };
    } else if (record.status === 'failed') {
      const { code = '', description = '' } = record.error ?? {};
      const text = [plain(code), plain(description)].filter(Boolean).join(': ') || 'failed';
      result = { tone: 'bad', text };
    }
    rows.set(record.deviceId, { door: record.deviceId, ...result });
  }
  return [...rows.values()].sort(
    (a, b) => TONES.indexOf(a.tone) - TONES.indexOf(b.tone) || (a.door < b.door ? -1 : 1),
  );
}
