// The page of door-hub itself, at /ui/: who may sign in, and what ends a session.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { Tab } from './browser.js';

/** The hub answers a wrong key this much later. */
const FAILURE_DELAY_MS = 1000;

const WHERE = "deviceId != 'gate'";
const GUARD = {
  access: 'operate',
  methods: ['lockDoor', 'lockdown', 'allClear', 'getState'],
  desired: ['lockdown'],
  tags: ['alarm'],
  where: WHERE,
};
const RIGHTS = 'RegistryRead,ServiceConnect';

export async function signIns(site, browser, step) {
  const keys = {
    guard: await site.policy('guard', RIGHTS, GUARD),
    viewer: await site.policy('viewer', RIGHTS, { access: 'read', where: WHERE }),
  };
  const address = site.page;
  // Its certificate is of the hub's own authority.
  const open = async () => {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    const tab = await Tab.open(context, new URL(address).origin);
    await tab.page.goto(address);
    await tab.shows('Sign in');
    return tab;
  };
  const signIn = async (tab, policy, key) => {
    await tab.field('Policy').fill(policy);
    await tab.field('Key').fill(key);
    await tab.field('Key').press('Enter');
  };

  const guard = await open();
  await guard.everywhere('sign-in');
  const start = Date.now();
  await signIn(guard, 'guard', keys.viewer);
  await guard.shows('No policy has this name and key.');
  assert.ok(Date.now() - start >= FAILURE_DELAY_MS, 'a wrong key is slowed');
  step('a wrong key is refused, and slowed');

  await signIn(guard, 'guard', keys.guard);
  await guard.shows('policy guard, bounded');
  await guard.shows('Lock down building 43');
  assert.ok(!(await guard.text()).includes('Building 44, floor 1, gate'));
  await guard.go('door/lab-2', 'the lowest number decides');
  await guard.click('Lock', '.commands');
  await guard.shows('lock lab-2: secured');
  assert.equal(await guard.page.locator('button', { hasText: 'Unlock' }).count(), 0);
  assert.equal(await guard.page.locator('button', { hasText: 'Relinquish' }).count(), 0);
  await refuses(guard, 'lab-2', 'unlockDoor');
  assert.equal((await call(guard, 'gate', 'lockDoor')).status, 404);
  await guard.everywhere('door-guard');
  step('a guard locks, and cannot unlock');

  const viewer = await open();
  await signIn(viewer, 'viewer', keys.viewer);
  await viewer.shows('policy viewer, read only');
  for (const [view, part] of [
    ['door/lobby-east', 'alarmRaised'],
    ['alarms', 'server-room'],
    ['jobs', 'There are no jobs.'],
    ['lockdown', 'no door is in lockdown'],
    ['doors?building=43&floor=3', 'lobby-east'],
  ]) {
    await viewer.go(view, part);
    const buttons = await viewer.page.locator('main button:visible').allInnerTexts();
    assert.deepEqual(buttons.filter((text) => !/Show all|‹|›/.test(text)), [], view);
  }
  for (const method of ['unlockDoor', 'lockDoor', 'getState']) {
    await refuses(viewer, 'lab-2', method);
  }
  await viewer.go('doors?building=43&floor=3');
  await viewer.hasPlan();
  step('a read-only session has no button, and its requests are refused');

  await strangers(guard, address);
  step('another origin, and a request without the token, get nothing');

  await viewer.click('Sign out', 'header');
  await viewer.shows('Sign in');
  await viewer.page.reload();
  await viewer.shows('Sign in');
  assert.ok(!(await viewer.text()).includes('The session is over'));
  step('a sign-out ends the session');

  await guard.go('', 'Overview');
  await site.removePolicy('guard');
  await guard.shows('The session is over: sign in again.');
  await signIn(guard, 'guard', keys.guard);
  await guard.shows('No policy has this name and key.');
  step('a session ends with its policy, and the page says why');
  for (const tab of [guard, viewer]) assert.deepEqual(tab.problems, [], 'console and policy');
}

function call(tab, id, methodName) {
  const path = `twins/${id}/methods?api-version=2021-04-12`;
  return tab.api('POST', path, { methodName, payload: {}, responseTimeoutInSeconds: 30 });
}

/** IoT Hub has one status for a wrong key and for a right that is missing. */
async function refuses(tab, id, method) {
  const { status, text } = await call(tab, id, method);
  assert.equal(status, 401, method);
  assert.ok(text.includes('does not allow access'), text);
}

/** The cookie alone, from its own page and from another service of this host. */
async function strangers(tab, address) {
  const path = `${new URL(address).origin}/devices?api-version=2021-04-12`;
  const bare = `fetch(${JSON.stringify(path)}).then((answer) => answer.status)`;
  assert.equal(await tab.evaluate(bare), 401);
  const other = createServer((_, answer) => answer.end('<!doctype html>')).listen(0, 'localhost');
  await new Promise((resolve) => other.once('listening', resolve));
  const origin = `http://localhost:${other.address().port}/`;
  const stranger = await Tab.open(tab.page.context(), origin);
  await stranger.page.goto(origin);
  for (const url of [path, `${address}session`]) {
    const asked = `fetch(${JSON.stringify(url)}, { credentials: 'include' })
      .then((answer) => answer.text(), (error) => error.name)`;
    assert.equal(await stranger.evaluate(asked), 'TypeError', url);
  }
  other.close();
  await stranger.page.close();
}
