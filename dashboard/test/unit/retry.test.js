// A retry repeats a job as `doorctl jobs retry` does. Run: node --test dashboard/test/unit/

import assert from 'node:assert/strict';
import test from 'node:test';

import { splitNames, repeated, seconds } from '../../web/retry.js';
import { useZone } from '../../web/words.js';

const NOW = Date.parse('2026-11-23T22:00:00.400Z');
const START = '2026-11-23T21:59:00Z';

/** @param {any} payload @param {any} [more] */
function lock(payload, more = {}) {
  return {
    jobId: 'a',
    startTime: START,
    maxExecutionTimeInSeconds: 120,
    cloudToDeviceMethod: {
      methodName: 'lockDoor',
      responseTimeoutInSeconds: 30,
      payload,
      ...more,
    },
  };
}

test('lengths are those of doorctl', () => {
  assert.deepEqual(['1h 30m', '10m', '90', 45, '2d'].map(seconds), [5400, 600, 90, 45, 172_800]);
  assert.ok(['', 'soon', '10:00', undefined].every((text) => Number.isNaN(seconds(text))));
});

test('a call keeps its id and its end, and is valid for one more run', () => {
  const payload = { until: '2026-11-23T22:10:00Z', commandId: 'tonight', notAfter: START };
  const again = repeated(lock(payload), null, NOW);
  assert.deepEqual('action' in again && again.action.cloudToDeviceMethod.payload, {
    ...payload,
    notAfter: '2026-11-23T22:02:00Z',
  });
  assert.equal('runs' in again && again.runs, 120);
});

test('an unknown payload and a call without a validity stay as they are', () => {
  for (const payload of [undefined, null, 'text', [1], { speed: 3 }]) {
    const again = repeated(lock(payload), null, NOW);
    assert.deepEqual('action' in again && again.action.cloudToDeviceMethod.payload, payload);
  }
});

test('an action that has ended is not repeated', () => {
  useZone('UTC');
  for (const [payload, isOver] of [
    [{ until: '2026-11-23T21:59:59Z' }, true],
    [{ until: '2026-11-23T22:00:01Z' }, false],
    // The last door was reached two minutes after the start.
    [{ lockTime: '1m' }, false],
    [{ lockTime: '1m', commandId: 'a' }, false],
    [{}, false],
  ]) {
    assert.equal('problem' in repeated(lock(payload), null, NOW), isOver, JSON.stringify(payload));
  }
  const late = NOW + 3 * 60_000;
  assert.match(
    /** @type {any} */ (repeated(lock({ lockTime: '1m' }), null, late)).problem,
    /ended at Mon 2026-11-23 22:02:00 UTC/,
  );
});

test('a call whose connect timeout exceeds its response timeout is mended', () => {
  const call = lock({}, { connectTimeoutInSeconds: 120 });
  const again = repeated(call, null, NOW);
  assert.equal('action' in again && again.action.cloudToDeviceMethod.responseTimeoutInSeconds, 120);
});

test('doors that had a timed entry are called until the same end', () => {
  const entry = { want: 'locked', from: START, until: '2026-11-24T05:00:00Z', reason: 'night' };
  const job = { jobId: 'night', updateTwin: {}, maxExecutionTimeInSeconds: 300 };
  const again = repeated(job, ['night', entry], NOW);
  assert.deepEqual('action' in again && again.action.cloudToDeviceMethod, {
    methodName: 'lockDoor',
    connectTimeoutInSeconds: 120,
    responseTimeoutInSeconds: 120,
    payload: {
      until: '2026-11-24T05:00:00Z',
      commandId: 'night',
      notAfter: '2026-11-23T22:05:00Z',
      reason: 'night',
    },
  });
  assert.ok('problem' in repeated(job, ['night', { ...entry, slot: 16 }], NOW));
});

test('a change of twins is repeated whatever the twin is now', () => {
  const updateTwin = {
    etag: 'x',
    properties: { desired: { mode: 'secure', $version: 4 } },
    tags: { zone: 'a' },
  };
  const again = repeated({ jobId: 'a', updateTwin }, null, NOW);
  assert.deepEqual('action' in again && again.action.updateTwin, {
    etag: '*',
    properties: updateTwin.properties,
    tags: { zone: 'a' },
  });
});

test('names are split into conditions that a hub accepts', () => {
  assert.deepEqual(splitNames(['a', "b'c"]), ["deviceId IN ['a', 'b\\'c']"]);
  const names = Array.from({ length: 1000 }, (_, index) => `door-${index}`);
  const parts = splitNames(names);
  assert.equal(parts.length, 2);
  assert.ok(parts.every((part) => part.length <= 8149));
  assert.equal(parts.join().split("'").length, 2001);
});
