// What the page makes of twins and events. Run: node --test dashboard/test/unit/

import assert from 'node:assert/strict';
import test from 'node:test';

import {
  alarmQueue,
  applyTwinEvent,
  comparePlaces,
  equals,
  merge,
  quote,
  readDoor,
  tagCondition,
  unapplied,
} from '../../web/model.js';
import { Store } from '../../web/store.js';

/** A twin of version 5. */
function twin(id = 'east', more = {}) {
  return {
    deviceId: id,
    version: 5,
    etag: 'AAAAAAAAAAM=',
    connectionState: 'Connected',
    tags: {},
    properties: {
      desired: { building: 43, floor: '3', $version: 2, $metadata: {} },
      reported: {
        door: {
          lockState: 'locked',
          doorState: 'closed',
          secured: 'secured',
          proof: 'bond',
          mode: 'normal',
          alarms: {},
          ...more,
        },
        $version: 3,
        $metadata: { door: { $lastUpdated: '2026-12-01T02:00:00Z' } },
      },
    },
  };
}

const opened = (version) => ({
  kind: 'twin',
  deviceId: 'east',
  properties: { opType: 'updateTwin' },
  body: { version, properties: { reported: { door: { secured: 'unsecured' }, $version: 4 } } },
});

test('an event is applied if it is the next change of the twin', () => {
  for (const [version, result, secured] of [
    [4, 'old', 'secured'],
    [5, 'old', 'secured'],
    [6, 'applied', 'unsecured'],
    [7, 'gap', 'secured'],
    [undefined, 'gap', 'secured'],
  ]) {
    const it = twin();
    assert.equal(applyTwinEvent(it, opened(version).body), result, String(version));
    assert.equal(it.properties.reported.door.secured, secured);
  }
});

test('a merge removes what is null and reaches no prototype', () => {
  const patch = JSON.parse('{"a":null,"b":{"c":1,"__proto__":{"bad":1}},"__proto__":{"bad":1}}');
  const into = { a: 1, b: { d: 2 }, e: 3 };
  assert.deepEqual(merge(into, patch), { b: { c: 1, d: 2 }, e: 3 });
  assert.equal({}.bad, undefined);
});

test('a store counts each door once while it changes, moves and goes', () => {
  const store = new Store();
  store.replace([twin(), twin('west')]);
  const place = () => store.sortedPlaces('43').map((each) => [each.floor, { ...each.counts }]);
  const counts = {
    doors: 2,
    secured: 2,
    unsecured: 0,
    unknown: 0,
    offline: 0,
    lockdown: 0,
    alarms: 0,
  };
  assert.deepEqual(place(), [['3', counts]]);
  assert.equal(store.apply(opened(6)), false);
  assert.deepEqual(place(), [['3', { ...counts, secured: 1, unsecured: 1 }]]);
  assert.equal(store.apply(opened(8)), true, 'a gap wants the twin read again');
  store.apply({
    kind: 'connection',
    deviceId: 'west',
    properties: { opType: 'deviceDisconnected' },
  });
  assert.deepEqual(place(), [['3', { ...counts, secured: 0, unsecured: 1, offline: 1 }]]);
  store.put({ ...twin(), version: 5 });
  assert.equal(store.doors.get('east').state, 'unsecured', 'an older twin changes nothing');
  const moved = twin();
  moved.version = 7;
  moved.properties.desired.floor = 4;
  store.put(moved);
  assert.deepEqual(
    place().map(([floor, { doors }]) => [floor, doors]),
    [
      ['3', 1],
      ['4', 1],
    ],
  );
  store.apply({ kind: 'device', deviceId: 'east', properties: { opType: 'deleteDeviceIdentity' } });
  assert.deepEqual(
    place().map(([floor]) => floor),
    ['3'],
  );
  assert.equal(store.total.doors, 1);
  assert.equal(store.apply(opened(1)), true, 'an unknown door is read');
});

test('alarms are sorted: open before acknowledged, worst first, oldest first', () => {
  const raised = (since) => ({ since });
  const doors = [
    readDoor(twin('a', { alarms: { heldOpen: raised('2026-12-01T01:00:00Z') } })),
    readDoor(
      twin('b', {
        alarms: { forcedOpen: raised('2026-12-01T03:00:00Z'), sensorFault: raised(null) },
      }),
    ),
    readDoor(twin('c', { alarms: { forcedOpen: raised('2026-12-01T02:00:00Z') } })),
    readDoor({
      ...twin('d', { alarms: { forcedOpen: raised('2026-12-01T00:00:00Z') } }),
      tags: { alarm: { forcedOpen: { raised: '2026-12-01T00:00:00Z', by: 'guard' } } },
    }),
  ];
  assert.deepEqual(
    alarmQueue(doors).map(({ door, alarm }) => `${door.id} ${alarm.name}`),
    ['c forcedOpen', 'b forcedOpen', 'a heldOpen', 'b sensorFault', 'd forcedOpen'],
  );
});

test('an acknowledgement belongs to one raising', () => {
  const door = (since, raised) =>
    readDoor({
      ...twin('a', { alarms: { tamper: { since } } }),
      tags: { alarm: { tamper: { raised, by: 'guard' } } },
    });
  const [one, two] = ['2026-12-01T00:00:00Z', '2026-12-01T01:00:00Z'];
  for (const [since, raised, expected] of [
    [one, one, true],
    [two, one, false],
    [null, undefined, true],
    [null, one, false],
    [one, undefined, false],
  ]) {
    assert.equal(
      door(since, raised).alarms[0].acknowledged !== null,
      expected,
      `${since} ${raised}`,
    );
  }
});

test('desired properties are pending until the door answers their version', () => {
  const wanted = (answer) => {
    const it = twin();
    it.properties.desired.floor = 3;
    it.properties.desired.$metadata = {
      floor: { $lastUpdatedVersion: 2 },
      building: { $lastUpdatedVersion: 1 },
    };
    it.properties.reported.building = { value: 43, ac: 200, av: 1 };
    if (answer) it.properties.reported.floor = answer;
    return unapplied(it);
  };
  assert.deepEqual(wanted(), [{ key: 'floor', refused: null }]);
  assert.deepEqual(wanted({ value: 2, ac: 200, av: 1 }), [{ key: 'floor', refused: null }]);
  assert.deepEqual(
    wanted({ value: 3, ac: 200, av: 1 }),
    [],
    'the same value is not acknowledged again',
  );
  assert.deepEqual(wanted({ value: 2, ac: 400, av: 2, ad: 'no' }), [
    { key: 'floor', refused: 'no' },
  ]);
  assert.deepEqual(wanted({ value: 3, ac: 200, av: 2 }), []);
});

test('places sort by number, then by name, then nothing', () => {
  assert.deepEqual(['roof', '10', '', '-1', '2'].sort(comparePlaces), [
    '-1',
    '2',
    '10',
    'roof',
    '',
  ]);
});

test('conditions quote what strangers named', () => {
  assert.equal(quote("a'b\\"), "'a\\'b\\\\'");
  assert.equal(equals('p', '43'), "p = 43 OR p = '43'");
  assert.equal(equals('p', "x' OR 1=1"), "p = 'x\\' OR 1=1'");
  assert.equal(equals('p', '1e5'), "p = '1e5'");
  assert.equal(tagCondition('a.b', 'true'), "tags.[[a]].[[b]] = true OR tags.[[a]].[[b]] = 'true'");
});
