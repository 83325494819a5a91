// Azure's Node SDKs with door-hub, written from their documentation. `compat/run` starts the hub
// and sets DOORFLEET_CONNECTION_STRING_FILE (the operator's connection string) and
// NODE_EXTRA_CA_CERTS.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

import device from 'azure-iot-device';
import mqtt from 'azure-iot-device-mqtt';
import service from 'azure-iothub';

const connectionString = readFileSync(process.env.DOORFLEET_CONNECTION_STRING_FILE, 'utf8').trim();
const registry = service.Registry.fromConnectionString(connectionString);
const client = service.Client.fromConnectionString(connectionString);
const jobs = service.JobClient.fromConnectionString(connectionString);

const open = [];
after(async () => {
  for (const connected of open) await connected.close();
});

/** The value of an SDK call, for each of its result types. */
const value = (resolved) =>
  resolved.responseBody ?? resolved.result ?? resolved.jobStatus ?? resolved;

/** Polls until `check` returns a true value. */
async function eventually(what, check) {
  for (const deadline = Date.now() + 20_000; Date.now() < deadline; await sleep(50)) {
    const found = await check();
    if (found) return found;
  }
  assert.fail(`not within 20 s: ${what}`);
}

async function register(deviceId) {
  const made = value(await registry.create({ deviceId, status: 'enabled' }));
  const key = made.authentication.symmetricKey.primaryKey;
  return `HostName=localhost;DeviceId=${deviceId};SharedAccessKey=${key}`;
}

/** A connected device that answers lockDoor with the payload of the request. */
async function lockable(connection, transport, options) {
  const connected = device.Client.fromConnectionString(connection, transport);
  if (options) await connected.setOptions(options);
  await connected.open();
  open.push(connected);
  connected.onDeviceMethod('lockDoor', (request, response) => {
    response.send(200, { got: request.payload }).catch(() => {});
  });
  return connected;
}

const call = (payload, timeouts) => ({
  methodName: 'lockDoor',
  payload,
  responseTimeoutInSeconds: 10,
  connectTimeoutInSeconds: 10,
  ...timeouts,
});

async function ended(jobId) {
  return eventually(`job ${jobId} ends`, async () => {
    const job = value(await jobs.getJob(jobId));
    return ['completed', 'failed', 'cancelled'].includes(job.status) ? job : undefined;
  });
}

for (const [name, transport] of [
  ['mqtt', mqtt.Mqtt],
  ['websocket', mqtt.MqttWs],
]) {
  test(`a device over ${name} answers calls, is notified and sends messages`, async () => {
    const deviceId = `node-${name}`;
    const connected = await lockable(await register(deviceId), transport);
    for (const payload of [null, '', 'text', 7, {}, { lockTime: '10m' }]) {
      const answer = value(await client.invokeDeviceMethod(deviceId, call(payload)));
      assert.deepEqual([answer.status, answer.payload], [200, { got: payload }]);
    }

    const twin = await connected.getTwin();
    const notifications = [];
    twin.on('properties.desired', (delta) => notifications.push(delta));
    const seen = value(await registry.getTwin(deviceId));
    const patch = { tags: { site: 'north' }, properties: { desired: { building: 43, floor: 3 } } };
    const updated = value(await registry.updateTwin(deviceId, patch, seen.etag));
    assert.equal(updated.properties.desired.floor, 3);
    // The SDK does not report when it has subscribed; a write without changes is also delivered.
    await eventually('the desired properties arrive', async () => {
      await registry.updateTwin(deviceId, patch, '*');
      return notifications.some((delta) => delta.floor === 3);
    });
    await promisify(twin.properties.reported.update.bind(twin.properties.reported))({ floor: 3 });
    assert.equal(value(await registry.getTwin(deviceId)).properties.reported.floor, 3);
    await assert.rejects(registry.updateTwin(deviceId, patch, seen.etag), {
      name: 'InvalidEtagError',
    });

    await connected.sendEvent(new device.Message(JSON.stringify({ door: 'closed' })));
  });
}

test('a device is known by the thumbprint of its certificate', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'node-x509-'));
  try {
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'rsa:2048',
        '-nodes',
        '-keyout',
        key,
        '-out',
        cert,
        '-days',
        '2',
        '-subj',
        '/CN=node-x509',
      ],
      { stdio: 'ignore' },
    );
    const pem = readFileSync(cert, 'utf8');
    const thumbprint = createHash('sha1')
      .update(new X509Certificate(pem).raw)
      .digest('hex')
      .toUpperCase();
    await registry.create({
      deviceId: 'node-x509',
      status: 'enabled',
      authentication: {
        type: 'selfSigned',
        x509Thumbprint: { primaryThumbprint: thumbprint, secondaryThumbprint: thumbprint },
      },
    });
    await lockable('HostName=localhost;DeviceId=node-x509;x509=true', mqtt.Mqtt, {
      cert: pem,
      key: readFileSync(key, 'utf8'),
    });
    assert.equal(value(await client.invokeDeviceMethod('node-x509', call(1))).status, 200);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('failures are recognised by their names', async () => {
  await assert.rejects(
    client.invokeDeviceMethod('node-nobody', call(1)),
    (error) => error.name === 'DeviceNotFoundError' || error.response?.statusCode === 404,
  );
  await register('node-away');
  const away = client.invokeDeviceMethod('node-away', call(1, { connectTimeoutInSeconds: 0 }));
  await assert.rejects(away, (error) =>
    /404103|Timed out waiting for device to connect/.test(error.responseBody ?? error.message),
  );
  await assert.rejects(registry.create({ deviceId: 'node-away' }), {
    name: 'DeviceAlreadyExistsError',
  });
  await assert.rejects(registry.get('node-nobody'), { name: 'DeviceNotFoundError' });
  await assert.rejects(
    client.invokeDeviceMethod('node-away', call(1, { responseTimeoutInSeconds: 1 })),
    /./,
  );
});

test('devices are added, updated and removed by the dozen', async () => {
  const ids = Array.from({ length: 12 }, (_, n) => `node-bulk-${n}`);
  const added = value(
    await registry.addDevices(ids.map((deviceId) => ({ deviceId, status: 'disabled' }))),
  );
  assert.deepEqual([added.isSuccessful, added.errors, added.warnings], [true, [], []]);
  const read = () => Promise.all(ids.map(async (id) => value(await registry.get(id))));
  const devices = await read();
  assert.ok(
    devices.every((one) => one.status === 'disabled' && one.authentication.symmetricKey.primaryKey),
  );

  const enabled = devices.map(({ deviceId, etag }) => ({ deviceId, etag, status: 'enabled' }));
  assert.equal(value(await registry.updateDevices(enabled, false)).isSuccessful, true);
  assert.ok((await read()).every((one) => one.status === 'enabled'));
  // These etags are outdated.
  const stale = registry.updateDevices(enabled, false);
  await assert.rejects(stale, (error) => {
    const result = JSON.parse(error.responseBody);
    assert.equal(error.name, 'ArgumentError');
    assert.deepEqual(
      [result.isSuccessful, result.errors.length, result.errors[0].errorCode],
      [false, 12, 'PreconditionFailed'],
    );
    return true;
  });
  assert.equal(value(await registry.updateDevices(enabled, true)).isSuccessful, true);

  const removed = value(
    await registry.removeDevices(
      ids.map((deviceId) => ({ deviceId })),
      true,
    ),
  );
  assert.equal(removed.isSuccessful, true);
  await assert.rejects(registry.get(ids[0]), { name: 'DeviceNotFoundError' });
});

test('what is not built is missing and says so', async () => {
  await register('node-whole');
  for (const [what, attempt] of [
    ['modules are', () => registry.addModule({ deviceId: 'node-whole', moduleId: 'camera' })],
    ['configurations and deployments are', () => registry.getConfiguration('doors')],
    ['import and export jobs are', () => registry.getJob('4711')],
  ]) {
    await assert.rejects(attempt(), (error) => {
      assert.equal(error.response?.statusCode ?? error.statusCode, 404);
      assert.match(
        error.responseBody ?? error.message,
        new RegExp(`${what} not built into this hub`),
      );
      return true;
    });
  }
});

test('lists of what is not built are empty', async () => {
  await register('node-whole-lists');
  for (const list of [
    () => registry.getModulesOnDevice('node-whole-lists'),
    () => registry.getConfigurations(),
    () => registry.listJobs(),
  ]) {
    assert.deepEqual(value(await list()), []);
  }
});

test('a query is read page by page', async () => {
  for (let n = 0; n < 5; n += 1) {
    await register(`node-paged-${n}`);
    await registry.updateTwin(`node-paged-${n}`, { tags: { nodePaged: true } }, '*');
  }
  const query = registry.createQuery('SELECT * FROM devices WHERE tags.nodePaged = true', 2);
  const found = [];
  let pages = 0;
  while (query.hasMoreResults) {
    const page = await query.nextAsTwin();
    found.push(...page.result.map((twin) => twin.deviceId));
    pages += 1;
  }
  assert.deepEqual([found.sort(), pages], [[0, 1, 2, 3, 4].map((n) => `node-paged-${n}`), 3]);
});

test('a selection and groups are read row by row', async () => {
  for (const [n, floor] of [1, 1, 2].entries()) {
    await register(`node-grouped-${n}`);
    await registry.updateTwin(`node-grouped-${n}`, { tags: { nodeGrouped: true, floor } }, '*');
  }
  const rows = async (text) => {
    const query = registry.createQuery(text, 1);
    const found = [];
    while (query.hasMoreResults) found.push(...(await query.next(query.continuationToken)).result);
    return found;
  };
  assert.deepEqual(
    await rows('SELECT deviceId, tags.floor AS level FROM devices WHERE tags.nodeGrouped = true'),
    [1, 1, 2].map((level, n) => ({ deviceId: `node-grouped-${n}`, level })),
  );
  assert.deepEqual(
    await rows(
      'SELECT tags.floor, COUNT() AS numberOfDevices FROM devices ' +
        'WHERE tags.nodeGrouped = true GROUP BY tags.floor',
    ),
    [
      { floor: 1, numberOfDevices: 2 },
      { floor: 2, numberOfDevices: 1 },
    ],
  );
});

test('jobs of both kinds reach a device, and are listed page by page', async () => {
  const connected = await lockable(await register('node-job'), mqtt.Mqtt);
  await connected.getTwin();
  await jobs.scheduleDeviceMethod(
    'node-lock',
    "deviceId = 'node-job'",
    call({ lockTime: '10m' }),
    new Date(),
    60,
  );
  await jobs.scheduleTwinUpdate(
    'node-move',
    "deviceId IN ['node-job']",
    { etag: '*', properties: { desired: { floor: 4 } } },
    new Date(),
    60,
  );
  for (const id of ['node-lock', 'node-move']) {
    const job = await ended(id);
    assert.equal(job.status, 'completed');
    assert.deepEqual(
      [job.deviceJobStatistics.deviceCount, job.deviceJobStatistics.succeededCount],
      [1, 1],
    );
  }
  assert.equal(value(await registry.getTwin('node-job')).properties.desired.floor, 4);

  for (const [type, id] of [
    ['scheduleDeviceMethod', 'node-lock'],
    ['scheduleUpdateTwin', 'node-move'],
  ]) {
    const query = jobs.createQuery(type, 'completed', 1);
    const found = [];
    while (query.hasMoreResults) {
      const page = await query.next();
      found.push(...page.result.map((job) => job.jobId));
    }
    assert.ok(found.includes(id), `${id} is not among ${found}`);
  }
});

test('a scheduled job is cancelled', async () => {
  const start = new Date(Date.now() + 3600_000);
  await jobs.scheduleTwinUpdate('node-later', '*', { etag: '*', tags: { x: 1 } }, start, 60);
  const cancelled = value(await jobs.cancelJob('node-later'));
  assert.equal(cancelled.status, 'cancelled');
  assert.equal((await ended('node-later')).status, 'cancelled');
});
