// The words of the page are doorctl's. Run: node --test dashboard/test/unit/

import assert from 'node:assert/strict';
import test from 'node:test';

import { errorOf } from '../../web/api.js';
import { EventParser } from '../../web/events.js';
import { readDoor } from '../../web/model.js';
import {
  because,
  countdown,
  describeTime,
  eventDetails,
  eventName,
  goalOf,
  judge,
  notSecuredBecause,
  onClock,
  roughly,
  slotRows,
  useZone,
} from '../../web/words.js';

const NOW = Date.parse('2026-11-23T22:00:00Z');

test('times are shown in the zone of the hub, and in UTC if it is unknown', () => {
  assert.equal(useZone('Europe/Berlin'), 'Europe/Berlin');
  assert.equal(onClock('2026-11-23T22:00:00Z'), '2026-11-23 23:00:00');
  assert.equal(useZone('Nowhere/Land'), 'UTC');
  assert.equal(describeTime('2026-11-23T22:00:00Z'), 'Mon 2026-11-23 22:00:00 UTC');
  assert.equal(describeTime('soon'), 'soon');
  assert.deepEqual([0, 59_000, 61_000, 3_600_000, 90_061_000].map(roughly), [
    '0 s',
    '59 s',
    '1 min 1 s',
    '1 h',
    '1 day 1 h',
  ]);
  assert.equal(countdown('2026-11-23T22:10:00Z', NOW), 'in 10 min');
});

test('the lowest slot decides and overrules the others', () => {
  const answer = {
    relinquishDefault: 'locked',
    slots: [
      { slot: 8, want: 'released', source: 'remote', until: null, commandId: null },
      {
        slot: 5,
        want: 'locked',
        source: 'remote',
        until: '2026-11-23T22:10:00Z',
        commandId: 'drill',
      },
    ],
  };
  const rows = slotRows(answer);
  assert.equal(
    because(rows, answer, NOW),
    'slot 5 (lockdown) decides: locked, until Mon 2026-11-23 ' +
      '22:10:00 UTC, in 10 min; it overrules slot 8 (operator hold: released)',
  );
  assert.deepEqual(
    rows.map((row) => row.by),
    ['remote: drill', 'remote', 'configuration'],
  );
  const empty = { relinquishDefault: 'released', slots: [] };
  assert.equal(
    because(slotRows(empty), empty, NOW),
    "no slot is filled, so the door's default decides: released",
  );
  assert.equal(slotRows({ slots: 'none' }), null);
});

test('an answer is judged by the state of the door', () => {
  for (const [status, body, method, tone, text] of [
    [200, { secured: 'secured' }, 'lockDoor', 'good', 'secured'],
    [
      202,
      { secured: 'unsecured', doorState: 'open' },
      'lockDoor',
      'doubt',
      'accepted (202): door open',
    ],
    [
      202,
      { heldBy: { slot: 1 } },
      'lockDoor',
      'doubt',
      'accepted (202): held by slot 1 (fire release)',
    ],
    [200, { lockState: 'unlocked' }, 'unlockDoor', 'good', 'released'],
    [202, { lockState: 'unlocked' }, 'unlockDoor', 'good', 'released, unproven'],
    [
      409,
      { Response: 'unlockDoor is refused: the mode is lockdown', error: 'refused' },
      'unlockDoor',
      'bad',
      'refused (409): the mode is lockdown',
    ],
    [500, { error: 'jammed' }, 'lockDoor', 'bad', 'failed (500): jammed'],
    [202, {}, 'relinquish', 'good', 'done'],
  ]) {
    assert.deepEqual(judge(status, body, goalOf(method)), { tone, text }, `${method} ${status}`);
  }
});

test('a muster says of each door why it is not secured', () => {
  const door = (more = {}, reported = {}, twin = {}) =>
    readDoor({
      deviceId: 'east',
      connectionState: 'Connected',
      tags: {},
      ...twin,
      properties: {
        desired: { lockdown: { id: 'drill' } },
        reported: {
          device: { features: { lockdown: true } },
          door: {
            lockState: 'locked',
            doorState: 'closed',
            secured: 'secured',
            mode: 'lockdown',
            lockdown: { id: 'drill' },
            alarms: {},
            ...more,
          },
          ...reported,
          $metadata: { door: { $lastUpdated: '2026-11-23T19:00:00Z' } },
        },
      },
    });
  for (const [it, expected] of [
    [door(), null],
    [door({ secured: 'unsecured', doorState: 'open' }), 'the door is open: close it'],
    [door({ secured: 'unknown' }), 'locked, but no sensor proves it: look at the door'],
    [
      door({ secured: 'unsecured', lockState: 'unlocked', heldBy: { slot: 1 } }),
      'released by slot 1 (fire release)',
    ],
    [
      door({ secured: 'secured', mode: 'normal', lockdown: null }),
      'it has not confirmed the lockdown',
    ],
    [
      door({ secured: 'unsecured', alarms: { jammed: { since: null } } }),
      'alarm jammed: the bolt does not move as commanded',
    ],
    [
      door({ secured: 'unsecured', doorState: 'open', alarms: { forcedOpen: { since: null } } }),
      'the door is open: close it; alarm forcedOpen: the door opened without permission',
    ],
    [
      door({ lockdown: null, mode: 'normal' }, { lockdown: { ac: 500, ad: 'disk full' } }),
      'it refused the lockdown: disk full',
    ],
    [
      door({ lockdown: null, mode: 'normal' }, {}, { connectionState: 'Disconnected' }),
      'offline; locked, door closed 3h ago; it locks down when it reconnects',
    ],
  ])
    assert.equal(notSecuredBecause(it, 'drill', NOW), expected);
});

test('events have the words of doorctl events', () => {
  useZone('UTC');
  for (const [event, expected] of [
    [
      { kind: 'telemetry', body: { seq: 1, kind: 'alarmRaised', floor: 3, alarm: 'forcedOpen' } },
      'alarmRaised forcedOpen',
    ],
    [
      { kind: 'telemetry', body: { kind: 'lockState', lockState: 'locked', proof: 'bond' } },
      'lockState locked proof=bond',
    ],
    [
      {
        kind: 'telemetry',
        time: '2026-11-23T21:00:00Z',
        repeated: true,
        body: {
          kind: 'doorState',
          doorState: 'open',
          at: '2026-11-23T19:00:00Z',
          clock: 'synchronized',
        },
      },
      'doorState open (happened 2026-11-23 19:00:00) (again)',
    ],
    [{ kind: 'telemetry', body: { temperature: 21.5 } }, 'message {"temperature":21.5}'],
    [
      {
        kind: 'connection',
        properties: { opType: 'deviceDisconnected' },
        body: { reason: 'lost' },
      },
      'deviceDisconnected lost',
    ],
    [
      {
        kind: 'twin',
        properties: { opType: 'updateTwin' },
        body: {
          tags: { wing: 'east', old: null },
          properties: { desired: { floor: 3, $version: 4 } },
        },
      },
      'updateTwin tags wing=east old=null; desired floor=3',
    ],
  ])
    assert.equal(`${eventName(event)} ${eventDetails(event)}`, expected);
});

test('a stream is split into events however it arrives', () => {
  const text =
    ': hello\n\nid: 7\nevent: twin\ndata: {"a":\ndata: 1}\n\nevent: lost\r\ndata: {}\r\n\r\n';
  const expected = [
    { event: 'twin', id: '7', data: '{"a":\n1}' },
    { event: 'lost', id: '7', data: '{}' },
  ];
  for (const size of [1, 5, text.length]) {
    const parser = new EventParser();
    const events = [];
    for (let at = 0; at < text.length; at += size)
      events.push(...parser.push(text.slice(at, at + size)));
    assert.deepEqual(events, expected, `in pieces of ${size}`);
  }
});

test('errors of both forms are shown with name, status and text', () => {
  for (const [name, body, expected] of [
    [
      '',
      '{"Message":"ErrorCode:DeviceNotOnline;it is away","ExceptionMessage":"Tracking ID:x"}',
      'DeviceNotOnline (404): it is away',
    ],
    [
      'DeviceNotOnline',
      '{"Message":"{\\"errorCode\\":404103,\\"message\\":\\"it is away\\"}"}',
      'DeviceNotOnline (404): it is away',
    ],
    ['', '<html>', 'error (404)'],
    [
      'HubUnavailable',
      '{"Message":"ErrorCode:HubUnavailable;cannot reach x:1: client error: refused"}',
      'cannot reach x:1: refused',
    ],
  ])
    assert.equal(errorOf(404, name, body).message, expected);
});
