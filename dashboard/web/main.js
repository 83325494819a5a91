// The frame of the page: session, address, banner, and the view that the address names.

import { begin, hubNow, presence, readClock, session, used } from './api.js';
import { alarms } from './alarms.js';
import { door } from './door.js';
import { doors } from './doors.js';
import { actionButton, errorText, fill, h, outcomeRegion, report } from './dom.js';
import { POLL_MS, live } from './events.js';
import { job, jobs } from './jobs.js';
import { lockdown, lockdownsNow, whereText } from './lockdown.js';
import { overview } from './overview.js';
import { field, link } from './parts.js';
import { store } from './store.js';
import { doorsText, onClock, placeText, useZone } from './words.js';

/** @type {Record<string, (rest: string, parameters: URLSearchParams) => View>} */
const VIEWS = {
  '': () => overview(),
  doors: (_, parameters) => doors(parameters),
  door: (id) => door(id),
  alarms: () => alarms(),
  jobs: (id) => (id ? job(id) : jobs()),
  lockdown: (_, parameters) => lockdown(parameters),
};

/** Share of the time that drawing may take: a pause of this many times as long follows. */
const REST = 3;

const DRAW_MS = 100;

/** Interval at which ages such as `3h ago` are drawn again. */
const TICK_MS = 10_000;

/** Interval at which the hub learns that somebody uses the page. */
const STAY_MS = 300_000;

const banner = h('p', { id: 'banner', role: 'status', hidden: true });
const announcer = h('p', { class: 'hidden', 'aria-live': 'assertive' });
const lockdowns = h('p', {
  id: 'lockdowns',
  role: 'region',
  'aria-label': 'Lockdowns in force',
  hidden: true,
});
const heading = h('h1', { tabindex: '-1' });
const content = h('div', null);
const main = h('main', { id: 'main', tabindex: '-1' }, heading, content);
const clock = h('span', { class: 'clock' });

/** @type {[string, string, HTMLElement][]} */
const links = [
  ['', 'Overview'],
  ['alarms', 'Alarms'],
  ['jobs', 'Jobs'],
  ['lockdown', 'Lockdown'],
].map(([path = '', text = '']) => [path, text, h('a', { href: link(path) }, text)]);

/** @type {View | null} */
let view = null;

// Address.

function route() {
  const [path = '', query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [name = '', rest = ''] = path.split('/');
  view?.close?.();
  let id = '';
  try {
    id = decodeURIComponent(rest);
  } catch {
    // An address that somebody typed.
  }
  view = (VIEWS[name] ?? overview)(id, new URLSearchParams(query));
  heading.textContent = view.title;
  fill(content, view.node);
  for (const [path, , node] of links) {
    if (path === name) node.setAttribute('aria-current', 'page');
    else node.removeAttribute('aria-current');
  }
  title();
}

function title() {
  const count = store.total.alarms;
  document.title = `${count > 0 ? `(${count}) ` : ''}${view?.title ?? ''} – ${session.hub}`;
}

// Drawing: at most once in a frame, with what has changed since the last time.

/** @type {Set<string> | null} */
let changed = new Set();
let isScheduled = false;
let restUntil = 0;

/** @param {string | null} id */
function draw(id) {
  if (id === null) changed = null;
  else changed?.add(id);
  if (isScheduled) return;
  isScheduled = true;
  const rest = restUntil - performance.now();
  if (rest > 0) setTimeout(requestAnimationFrame, rest, drawNow);
  else requestAnimationFrame(drawNow);
}

function drawNow() {
  isScheduled = false;
  const what = changed;
  changed = new Set();
  const start = performance.now();
  view?.update(what);
  frame();
  const end = performance.now();
  restUntil = end + Math.max((end - start) * REST, DRAW_MS);
}

function frame() {
  const { alarms: count } = store.total;
  for (const [path, text, node] of links) {
    const label = path === 'alarms' && count > 0 ? `${text} (${count})` : text;
    if (node.textContent !== label) node.textContent = label;
    node.classList.toggle('bad', path === 'alarms' && count > 0);
  }
  title();
  announce();
  const force = lockdownsNow();
  const text = force
    .map(({ doors }) => `${whereText(doors)} (${doorsText(doors.length)})`)
    .join('; ');
  lockdowns.hidden = force.length === 0;
  const label = `Lockdown: ${text}. `;
  if (force.length > 0 && lockdowns.dataset.text !== label) {
    lockdowns.dataset.text = label;
    fill(
      lockdowns,
      h('span', { 'aria-hidden': 'true' }, '■ '),
      label,
      h('a', { href: link('lockdown') }, 'Who is not secured?'),
    );
  }
}

/** Alarms that were raised since the page knows the doors. @type {Set<string> | null} */
let announced = null;

function announce() {
  if (!live.isLoaded) return;
  const raised = new Map();
  for (const each of store.of(store.alarmed)) {
    for (const alarm of each.alarms) {
      const key = JSON.stringify([each.id, alarm.name, alarm.since]);
      raised.set(key, `Alarm ${alarm.name} at ${each.id}, ${placeText(each)}.`);
    }
  }
  const before = announced;
  announced = new Set(raised.keys());
  if (!before) return;
  const texts = [...raised].filter(([key]) => !before.has(key)).map(([, text]) => text);
  if (texts.length > 0) announcer.textContent = texts.slice(0, 3).join(' ');
}

// What the page knows of the hub.

function linked() {
  const since = live.current === null ? '' : ` What you see is of ${onClock(live.current)}.`;
  const problem = live.problem && `${live.problem}. `;
  const text = {
    live: '',
    loading: live.problem
      ? `${live.problem}.${since} Trying again.`
      : `Reading the doors … ${live.loaded > 0 ? live.loaded.toLocaleString('en') : ''}`,
    broken: `Not connected: ${problem}${since.trim()} Trying again.`,
    polling:
      `This hub has no event stream: the doors are read every ${POLL_MS / 1000} s, and ` +
      'alarms show as much later.',
  }[live.link];
  banner.className = live.link;
  banner.hidden = text === '';
  if (banner.textContent !== text) banner.textContent = text;
  document.body.classList.toggle('outdated', live.link === 'broken');
}

// Session.

function find() {
  const input = h('input', {
    type: 'search',
    placeholder: 'Find a door',
    'aria-label': 'Find a door',
    autocomplete: 'off',
    spellcheck: 'false',
    enterkeyhint: 'search',
  });
  return h(
    'form',
    {
      class: 'find',
      role: 'search',
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        const text = input.value.trim();
        const found = [...store.doors.keys()].filter((id) =>
          id.toLowerCase().includes(text.toLowerCase()),
        );
        const [only] = found;
        const exact = store.doors.has(text) ? text : found.length === 1 ? only : undefined;
        location.hash = exact
          ? link(`door/${encodeURIComponent(exact)}`)
          : link('doors', { find: text });
      },
    },
    input,
    h('button', null, 'Find'),
  );
}

/** @param {Session} begun */
function open(begun) {
  begin(begun, () => {
    live.stop();
    enter();
  });
  const zone = useZone(begun.zone);
  const { bounds } = begun;
  const rights = bounds === null ? '' : bounds.access === 'read' ? ', read only' : ', bounded';
  const signOut =
    begun.signOut &&
    h(
      'button',
      {
        onclick: async () => {
          await fetch('logout', {
            method: 'POST',
            headers: { 'x-doorfleet-token': session.token },
          });
          keepToken(null);
          location.reload();
        },
      },
      'Sign out',
    );
  fill(
    document.body,
    h(
      'a',
      {
        class: 'skip',
        href: '#main',
        onclick: (/** @type {Event} */ event) => {
          event.preventDefault();
          main.focus();
        },
      },
      'Skip to the content',
    ),
    h(
      'header',
      null,
      h('a', { class: 'brand', href: link('') }, begun.hub),
      h(
        'nav',
        { 'aria-label': 'Views' },
        links.map(([, , node]) => node),
      ),
      find(),
      h('p', { class: 'who' }, clock, ` policy ${begun.policy}${rights} `, signOut),
    ),
    banner,
    lockdowns,
    announcer,
    main,
  );
  const tick = () => {
    clock.textContent = `${onClock(hubNow()).slice(0, 16)} ${zone} · `;
  };
  tick();
  setInterval(tick, 1000);
  addEventListener('beforeprint', () => {
    for (const each of document.querySelectorAll('details')) each.open = true;
  });
  setInterval(() => draw(null), TICK_MS);
  store.onChange = draw;
  live.onLink = () => {
    linked();
    draw(null);
  };
  addEventListener('hashchange', () => {
    route();
    heading.focus({ preventScroll: true });
    scrollTo(0, 0);
  });
  linked();
  route();
  live.start();
  if (begun.signOut) stay();
}

/** Keeps the session of a person who reads and sends nothing. */
function stay() {
  let at = Date.now();
  for (const event of ['pointerdown', 'keydown', 'wheel']) {
    addEventListener(
      event,
      () => {
        used();
        if (Date.now() - at < STAY_MS) return;
        at = Date.now();
        const headers = { ...keptToken(), ...presence() };
        // A failure shows at the next request that somebody waits for.
        fetch('session', { cache: 'no-store', headers }).catch(() => {});
      },
      { passive: true },
    );
  }
}

/** Where the token of a login at door-hub is kept: only this origin reads it, unlike a cookie. */
const TOKEN_KEY = 'doorfleet-token';

/**
 * Keeps the token as long as the session: a wall, which only reads, starts again without a person.
 *
 * @param {Session | null} begun
 */
function keepToken(begun) {
  for (const kept of [sessionStorage, localStorage]) kept.removeItem(TOKEN_KEY);
  if (begun === null) return;
  const storage = begun.bounds?.access === 'read' ? localStorage : sessionStorage;
  storage.setItem(TOKEN_KEY, begun.token);
}

/** @returns {Record<string, string>} */
function keptToken() {
  const token = sessionStorage.getItem(TOKEN_KEY) ?? localStorage.getItem(TOKEN_KEY);
  return token === null ? {} : { 'x-doorfleet-token': token };
}

async function enter() {
  let answer;
  try {
    answer = await fetch('session', {
      cache: 'no-store',
      credentials: 'same-origin',
      headers: keptToken(),
    });
  } catch (error) {
    waiting(`The server of this page cannot be reached (${errorText(error)}).`);
    return;
  }
  readClock(answer);
  if (answer.status === 401) {
    const isOver = session.token !== '' || keptToken()['x-doorfleet-token'] !== undefined;
    keepToken(null);
    login(isOver);
  }
  else if (!answer.ok) waiting(`The server of this page answers ${answer.status}.`);
  else if (!session.token) open(await answer.json());
  else {
    const begun = await answer.json();
    // A new token; the same one would be refused again.
    if (begun.token !== session.token) location.reload();
    else waiting('The hub does not accept this session.');
  }
}

/** @param {string} text */
function waiting(text) {
  if (session.token) {
    fill(banner, text, ' Reload the page once it runs again.');
    banner.hidden = false;
    return;
  }
  fill(
    document.body,
    h(
      'main',
      { class: 'login' },
      h('h1', null, 'doorfleet'),
      h('p', { role: 'alert' }, text, ' Trying again.'),
    ),
  );
  setTimeout(enter, 3000);
}

let isAtLogin = false;

/** @param {boolean} isOver whether a session was there before */
function login(isOver) {
  // Each request of the page that ended may lead here, and would clear what is typed.
  if (isAtLogin) return;
  isAtLogin = true;
  const outcome = outcomeRegion();
  const policy = h('input', { autocomplete: 'username', spellcheck: 'false', required: true });
  const key = h('input', { type: 'password', autocomplete: 'current-password', required: true });
  const button = actionButton(
    'Sign in',
    { class: 'primary' },
    outcome,
    async () => {
      const answer = await fetch('login', {
        method: 'POST',
        credentials: 'same-origin',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ policy: policy.value.trim(), key: key.value.trim() }),
      });
      key.value = '';
      if (answer.ok) {
        keepToken(await answer.json());
        location.reload();
      } else {
        const text =
          answer.status === 401
            ? 'No policy has this name and key.'
            : answer.status === 429
              ? 'Too many attempts: wait up to ten minutes.'
              : `The hub answers ${answer.status}.`;
        report(outcome, { tone: 'bad', text });
        return { tone: 'bad', text };
      }
      return { tone: 'good', text: 'Signed in.' };
    },
  );
  fill(
    document.body,
    h(
      'main',
      { class: 'login' },
      h('h1', null, 'doorfleet'),
      isOver && h('p', { role: 'alert' }, 'The session is over: sign in again.'),
      h(
        'form',
        {
          onsubmit: (/** @type {Event} */ event) => event.preventDefault(),
        },
        field('Policy', policy),
        field('Key', key),
        button,
        outcome,
      ),
    ),
  );
  document.title = 'Sign in – doorfleet';
  policy.focus();
}

enter();
