// The page in Chromium: what a person sees and does, and what a browser refuses.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { Tab, launch, until } from './browser.js';
import { signIns } from './hub.js';
import { Site } from './site.js';

const HOSTILE = '<img src=x onerror=document.title=1>';
const STRANGER = "img!'(1)";
const FLOOR = 'doors?building=43&floor=3';
const MIB = 1024 * 1024;
/** Rooms of the image; the last door is placed by a person. */
const DOORS = [
  'entrance,43,1', 'garage,43,1', 'loading-dock,43,1', 'office-201,43,2', 'office-202,43,2',
  'lobby-east,43,3,0.95,0.5', 'lobby-west,43,3,0.05,0.5', 'lab-1,43,3,0.163,0.425',
  'lab-2,43,3,0.388,0.425', 'meeting,43,3,0.613,0.425', 'server-room,43,3,0.838,0.575',
  'stairs-3,43,3', 'gate,44,1', 'workshop,44,1',
];

const site = new Site();
let browser;

function step(name) {
  console.log(`${(performance.now() / 1000).toFixed(1).padStart(6)} s  ${name}`);
}

/** Adds a device with a name and properties that no doorctl would give it. */
async function addHostile(tab) {
  const path = encodeURIComponent(STRANGER);
  const place = { building: HOSTILE, floor: HOSTILE };
  const twin = { tags: { name: HOSTILE, ...place }, properties: { desired: place } };
  const version = '?api-version=2021-04-12';
  const created = await tab.api('PUT', `devices/${path}${version}`, { deviceId: STRANGER });
  assert.equal(created.status, 200, created.text);
  const changed = await tab.api('PATCH', `twins/${path}${version}`, twin);
  assert.equal(changed.status, 200, changed.text);
}

async function main() {
  await site.start();
  const head = 'door,building,floor,tags.plan.x,tags.plan.y,tags.plan.id,tags.site';
  const lines = DOORS.map((line) => {
    const [id, building, floor, x = '', y = ''] = line.split(',');
    return [id, building, floor, x, y, x && '43-3', building].join();
  });
  await site.doors(head, lines);
  const address = await site.dashboard();
  step('hub, doors and doorctl run');

  browser = await launch();
  const context = await browser.newContext();
  const tab = await Tab.open(context, address);
  await tab.page.goto(address);
  await tab.shows(`${DOORS.length} secured`);
  step('the page shows the doors');

  await plans(tab);
  step('a plan of 2 MiB is stored, a larger one is refused, and a click places a door');
  await oneQuestion(tab);
  step('an open view of a door asks the door once, and when a person wants it');
  await retries(tab);
  step('a failed job is retried at the doors that failed');
  await forced(tab);
  await fiveTasks(tab);
  step('the five tasks need no scrolling on a phone and on a laptop');
  await endedElsewhere(tab, context, address);
  step('a lockdown that another page ends is over on the page that ordered it');
  await site.unplug('office-202');
  await site.doorctl('unlock', 'lab-1', '--for', '30m');
  await tab.go('doors?building=43', 'offline, locked');
  if (process.env.DOORFLEET_PICTURES) await pictures(tab);
  await addHostile(tab);
  await views(tab);
  step('every view is accessible: light and dark, on a phone, a laptop and a wall');
  await hostile(tab);
  step('the name of a stranger is text');
  await acknowledgements(tab, context, address);
  step('two pages acknowledge one alarm: the second sees the first');
  await wrongClock(context, address);
  step('a browser whose clock is an hour wrong shows and sends true times');
  await keyboard(tab);
  step('a lockdown and its end by keyboard alone');
  await strangers(address);
  step('another origin and a wrong token get nothing');
  await restarts(tab, context);
  step('the stream was cut and the hub restarted under the open page');
  assert.deepEqual(tab.problems, [], 'console, policy and requests');
  await signIns(site, browser, step);
}

async function plans(tab) {
  const floor = readFileSync(process.env.DOORFLEET_FLOOR);
  await tab.go(FLOOR, 'lab-1');
  await tab.click('Plan of this floor');
  const store = async (size) => {
    const buffer = Buffer.concat([floor, Buffer.alloc(size - floor.length)]);
    const file = { name: 'floor.png', mimeType: 'image/png', buffer };
    await tab.page.locator('input[type=file]').setInputFiles(file);
    await tab.click('Use this plan');
  };
  await store(2 * MIB + 1);
  await tab.shows('a plan has at most 2 MiB: make it smaller');
  assert.ok(!(await tab.text()).includes('is stored'));
  await store(2 * MIB);
  await tab.shows('Plan 43-3 is stored');
  await store(floor.length);
  await tab.shows('Plan 43-3 is stored');
  await tab.page.reload();
  await tab.hasPlan();
  await tab.field('Move (then click its place)').selectOption('stairs-3');
  const box = await tab.page.locator('canvas').boundingBox();
  await tab.page.mouse.click(box.x + box.width * 0.125, box.y + box.height * 0.575);
  await tab.shows('stairs-3 is placed here');
  await until('its mark', () =>
    tab.evaluate("[...document.querySelectorAll('.marks .name')].some((name) => " +
      "name.textContent === 'stairs-3')"));
}

async function oneQuestion(tab) {
  const count = () =>
    tab.requests.filter((request) => request.url().includes('/twins/meeting/methods')).length;
  await tab.go('door/meeting', 'the lowest number decides');
  assert.equal(count(), 1);
  await site.doorctl('unlock', 'meeting', '--for', '30m');
  await tab.shows('By its last report');
  assert.equal(count(), 1, 'a change of the door asks it nothing');
  await tab.click('Ask the door');
  await tab.shows('the lowest number decides');
  assert.equal(count(), 2);
  await site.doorctl('relinquish', 'meeting');
}

async function retries(tab) {
  await site.unplug('gate');
  await tab.go('doors?building=44', 'offline, locked');
  const payload = { lockTime: '1h', commandId: 'yard', notAfter: '2099-01-01T00:00:00Z' };
  const call = { methodName: 'lockDoor', connectTimeoutInSeconds: 0, responseTimeoutInSeconds: 30 };
  const job = {
    jobId: 'yard',
    type: 'scheduleDeviceMethod',
    cloudToDeviceMethod: { ...call, payload },
    queryCondition: 'tags.site = 44',
    maxExecutionTimeInSeconds: 60,
  };
  const created = await tab.api('PUT', 'jobs/v2/yard?api-version=2021-04-12', job);
  assert.equal(created.status, 200, created.text);
  await tab.go('jobs/yard', '1 of 2 answered, 1 failed');
  await site.plugIn('gate');
  await until('the gate is back', () =>
    tab.evaluate("import('./store.js').then(({ store }) => store.doors.get('gate').isOnline)"));
  await tab.click('Retry');
  await tab.click('Yes, retry');
  await tab.shows('repeats it at 1 door.');
  await tab.go('jobs', 'retry-');
  await tab.shows('1 of 1 answered');
}

async function forced(tab) {
  await tab.go('', 'Overview');
  await site.sim('server-room', 'force');
  const ms = await tab.shows('Alarms (1)');
  const isRed = "document.querySelector('nav .bad')?.textContent.startsWith('Alarms')";
  assert.equal(await tab.evaluate(isRed), true);
  await tab.shows('forcedOpen');
  const tile = "document.querySelector('.tile.bad strong').innerText";
  assert.equal(await tab.evaluate(tile), 'Floor 3');
  step(`a forced door is red after ${ms} ms`);
}

/** What a person needs first is on the screen, and so is what came of it: docs/develop.md. */
async function fiveTasks(tab) {
  const isSeen = async (selector) => {
    const box = await tab.page.locator(selector).boundingBox();
    const { width, height } = tab.page.viewportSize();
    const isIn =
      box.x >= 0 && box.x + box.width <= width && box.y >= 0 && box.y + box.height <= height;
    assert.ok(isIn, `${selector} is at ${JSON.stringify(box)} of ${width} x ${height}`);
    return box;
  };
  for (const [width, height] of [[360, 740], [1280, 800]]) {
    await tab.page.setViewportSize({ width, height });
    await tab.go('', 'Overview');
    await isSeen('.attention li');
    await tab.go('door/server-room', 'forcedOpen');
    const before = await isSeen('.commands .primary');
    await tab.click('Lock', '.commands');
    await tab.shows('accepted (202): door open; close it, and it locks');
    await isSeen('.commands .outcome');
    assert.deepEqual(await isSeen('.commands .primary'), before, 'the button stays where it was');
    await tab.go('lockdown', 'to confirm');
    await isSeen('.order .danger');
  }
  await tab.page.setViewportSize({ width: 1280, height: 900 });
}

async function endedElsewhere(tab, context, address) {
  const other = await Tab.open(context, address);
  await other.page.goto(`${address}#/lockdown`);
  await other.field('Building').selectOption('44');
  await other.field('Type 44 to confirm').fill('44');
  await other.click('Lock down', '.order');
  await other.shows('All 2 doors are secured.');
  await other.shows('Secured doors (2)');
  await tab.go('lockdown', 'All 2 doors are secured.');
  await tab.click('All-clear');
  await tab.click('Yes, end it');
  await tab.shows('no door is in lockdown');
  // The doors take their acknowledgement back last.
  const lasts = "import('./store.js').then(({ store }) => store.at('44', null).some((door) => " +
    'door.desiredLockdown || door.twin.properties.reported.lockdown))';
  await until('the end at each door', async () => !(await other.evaluate(lasts)));
  await other.go('alarms', 'An alarm ends');
  await other.go('lockdown', 'to confirm');
  assert.match(await other.text(), /no door is in lockdown/);
  assert.deepEqual(other.problems, []);
  await other.page.close();
}

/** The pictures of the documents. */
async function pictures(tab) {
  for (const [name, view, part, height] of [
    ['overview', '', 'Building 44', 470],
    ['floor', FLOOR, 'stairs-3', 860],
  ]) {
    await tab.page.setViewportSize({ width: 1280, height });
    await tab.go(view, part);
    if (name === 'floor') await tab.hasPlan();
    await tab.page.screenshot({ path: `${process.env.DOORFLEET_PICTURES}/${name}.png` });
  }
}

async function views(tab) {
  for (const [name, view, part] of [
    ['overview', '', 'Building 44'],
    ['doors', 'doors', 'loading-dock'],
    ['floor', FLOOR, 'stairs-3'],
    ['door', 'door/lab-1', 'the lowest number decides'],
    ['door-forced', 'door/server-room', 'forcedOpen'],
    ['alarms', 'alarms', 'Acknowledge'],
    ['jobs', 'jobs', 'yard'],
    ['job', 'jobs/yard', 'gate'],
    ['lockdown', 'lockdown', 'to confirm'],
  ]) {
    await tab.go(view, part);
    if (name === 'floor') await tab.hasPlan();
    await tab.everywhere(name);
  }
}

async function hostile(tab) {
  await tab.go('doors', STRANGER);
  await tab.shows(HOSTILE);
  await tab.go(`door/${encodeURIComponent(STRANGER)}`, HOSTILE);
  await tab.go('', HOSTILE);
  assert.equal(await tab.evaluate("document.querySelectorAll('img').length"), 0);
}

async function acknowledgements(tab, context, address) {
  await site.sim('lobby-west', 'force');
  await tab.go('alarms', 'lobby-west');
  const other = await Tab.open(context, address);
  await other.page.goto(`${address}#/alarms`);
  await other.shows('lobby-west');
  const acknowledge = async (on, id, note) => {
    const input = on.page.getByLabel(`Note about forcedOpen at ${id}`);
    await input.fill(note);
    await input.press('Enter');
  };
  // Both read the twin; the first one writes before the second one does.
  const write = (id, name) =>
    tab.api('PATCH', `twins/${id}?api-version=2021-04-12`, { tags: { [name]: 'x' } });
  let isFirst = true;
  await other.page.route(/twins\/lobby-west\?/, async (route) => {
    if (route.request().method() === 'PATCH' && isFirst) {
      isFirst = false;
      await write('lobby-west', 'patrol');
    }
    await route.continue();
  });
  await acknowledge(other, 'lobby-west', 'Ali goes');
  await other.shows('Somebody changed this door at the same moment; nothing was written.');
  await acknowledge(other, 'lobby-west', 'Ali goes');
  await other.shows('forcedOpen at lobby-west is acknowledged.');
  await tab.shows('“Ali goes”');
  await other.page.route(/twins\/server-room\?/, async (route) => {
    if (route.request().method() === 'GET') {
      await acknowledge(tab, 'server-room', 'Bo goes');
      await tab.shows('forcedOpen at server-room is acknowledged.');
    }
    await route.continue();
  });
  await acknowledge(other, 'server-room', 'Cy goes');
  await other.shows('acknowledged it before you; nothing was written.');
  await other.shows('“Bo goes”');
  assert.ok(!(await other.text()).includes('Cy goes'));
  assert.deepEqual(other.problems, []);
  await other.page.close();
}

async function wrongClock(context, address) {
  for (const hours of [1, -1]) {
    const late = await Tab.open(
      context,
      address,
      `globalThis.Date = class extends Date {
        constructor(...given) { given.length ? super(...given) : super(Date.now()); }
        static now() { return super.now() + ${hours * 3_600_000}; }
      };`,
    );
    await late.page.goto(`${address}#/alarms`);
    await late.shows('server-room');
    const text = await late.text();
    const shown = Date.parse(`${/\d{4}-\d\d-\d\d \d\d:\d\d/.exec(text)[0].replace(' ', 'T')}Z`);
    const zone = new Date().getTimezoneOffset() * 60_000;
    assert.ok(Math.abs(shown + zone - Date.now()) < 120_000, text);
    const ages = [...text.matchAll(/\((\d+)([smhd]) ago\)/g)].map(([, , unit]) => unit);
    assert.ok(ages.length > 0 && ages.every((unit) => 'sm'.includes(unit)), text);
    await late.go('door/entrance', 'Command');
    await late.click('Lock', '.commands');
    await late.shows('lock entrance: secured');
    assert.deepEqual(late.problems, []);
    await late.page.close();
  }
}

async function keyboard(tab) {
  const { keyboard: keys } = tab.page;
  await tab.go('', 'Overview');
  await tab.tabTo('Lockdown');
  await keys.press('Enter');
  await tab.shows('to confirm');
  await tab.tabTo('Building');
  await keys.press('ArrowDown');
  await tab.shows('2 doors: building 44.');
  await tab.tabTo('Reason');
  await keys.type('drill');
  await tab.tabTo('Type 44 to confirm');
  await keys.type('44');
  await keys.press('Enter');
  await tab.shows('All 2 doors are secured.');
  await tab.shows('Lockdown: building 44');
  await tab.everywhere('lockdown-in-force');
  await tab.evaluate("document.querySelector('h1').focus()");
  await tab.tabTo('All-clear');
  await keys.press('Enter');
  await keys.press('Enter');
  await tab.shows('no door is in lockdown');
}

/** What a page of another origin, and a program without the token, can do. */
async function strangers(address) {
  const other = createServer((_, answer) => answer.end('<!doctype html>')).listen(0, '127.0.0.1');
  await new Promise((resolve) => other.once('listening', resolve));
  const origin = `http://127.0.0.1:${other.address().port}/`;
  const tab = await Tab.open(await browser.newContext(), origin);
  await tab.page.goto(origin);
  for (const path of ['', 'session', 'api/devices?api-version=2021-04-12']) {
    for (const options of ['{}', '{ headers: { "x-doorfleet-token": "0" } }']) {
      const asked = `fetch(${JSON.stringify(address + path)}, ${options})
        .then((answer) => answer.text(), (error) => error.name)`;
      assert.equal(await tab.evaluate(asked), 'TypeError', path);
    }
  }
  other.close();
  await tab.page.context().close();
  const wrong = await fetch(`${address}api/devices`, { headers: { 'x-doorfleet-token': '0' } });
  assert.equal(wrong.status, 403);
}

/** The page goes on without a reload: it shows that it is cut off, and what came since. */
async function restarts(tab, context) {
  await tab.go('', 'Overview');
  await tab.evaluate('globalThis.isSamePage = true');
  const isNow = (link) => until(`that the page is ${link}`, async () =>
    (await tab.evaluate("document.getElementById('banner').className")) === link);
  await context.setOffline(true);
  // Chromium keeps an open stream when it goes offline.
  await tab.evaluate("import('./events.js').then(({ live }) => live.abort.abort())");
  await isNow('broken');
  await tab.shows('Not connected');
  await site.sim('lobby-east', 'force');
  await context.setOffline(false);
  await isNow('live');
  await tab.shows('lobby-east');

  await site.killHub();
  await isNow('broken');
  await tab.shows('Not connected');
  await tab.everywhere('not-connected');
  await site.startHub();
  await isNow('live');
  await site.sim('entrance', 'force');
  await tab.shows('Alarms (4)');
  await tab.go('door/entrance', 'alarmRaised');
  assert.equal(await tab.evaluate('globalThis.isSamePage'), true);
}

try {
  await main();
} finally {
  await browser?.close();
  site.stop();
}
