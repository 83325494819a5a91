// Builds the page's elements. Names and twins come from strangers: a child that is no node is
// always text, and nothing here parses HTML.

/**
 * Creates an element. An attribute `on...` is a listener; false, null and undefined are left out.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any> | null} [attributes]
 * @param {...Child} children
 */
export function h(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : String(value));
  }
  fill(node, children);
  return node;
}

/**
 * @template {Element} T
 * @param {T} node
 * @param {...Child} children
 */
export function fill(node, ...children) {
  /** @type {(Node | string)[]} */
  const nodes = [];
  /** @param {Child} child */
  const add = (child) => {
    if (child === null || child === undefined || child === false) return;
    if (Array.isArray(child)) child.forEach(add);
    else nodes.push(child instanceof Node ? child : String(child));
  };
  add(children);
  node.replaceChildren(...nodes);
  return node;
}

/**
 * Writes a text only if it changed: a live region would be read again.
 *
 * @param {Element} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * @typedef {{ version: string, node: HTMLElement }} Kept
 * @type {WeakMap<Element, Map<string, Kept>>}
 */
const lists = new WeakMap();

/**
 * Makes the children of `parent` those of `items`. An item whose version is the same keeps its
 * node, and with it focus and selection; a replaced node passes its focus on.
 *
 * @template T
 * @param {Element} parent
 * @param {Iterable<T>} items
 * @param {(item: T) => string} key
 * @param {(item: T) => string} version
 * @param {(item: T) => HTMLElement} build
 */
export function list(parent, items, key, version, build) {
  const before = lists.get(parent) ?? new Map();
  /** @type {Map<string, Kept>} */
  const now = new Map();
  const active = document.activeElement;
  const focus = active instanceof HTMLElement && parent.contains(active) ? active : null;
  /** @type {HTMLElement | null} */
  let focused = null;
  for (const item of items) {
    const id = key(item);
    const wanted = version(item);
    const old = before.get(id);
    if (old && old.version === wanted) {
      now.set(id, old);
      continue;
    }
    const node = build(item);
    if (old && focus && old.node.contains(focus)) {
      focused = controls(node)[controls(old.node).indexOf(focus)] ?? null;
    }
    now.set(id, { version: wanted, node });
  }
  lists.set(parent, now);
  let next = parent.firstChild;
  for (const { node } of now.values()) {
    if (node === next) next = next.nextSibling;
    else parent.insertBefore(node, next);
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
  // A node that only moved loses its focus too.
  (
    focused ?? (focus && parent.contains(focus) && focus !== document.activeElement ? focus : null)
  )?.focus();
}

/**
 * Fills an element, unless its version is the same: focus and selection stay.
 *
 * @param {Element} parent
 * @param {string} version
 * @param {() => Child} build
 */
export function redraw(parent, version, build) {
  list(
    parent,
    [version],
    () => '',
    () => version,
    () => h('div', null, build()),
  );
}

/** What may have the focus in a node, and the node. @param {HTMLElement} node */
function controls(node) {
  /** @type {NodeListOf<HTMLElement>} */
  const within = node.querySelectorAll('a, button, input, select, summary');
  return [node, ...within];
}

/**
 * A button that runs an action once at a time. It stays focusable while the action runs, and what
 * came of it is written into `outcome`.
 *
 * @param {string} label
 * @param {Record<string, any>} attributes
 * @param {Element} outcome
 * @param {() => Promise<Outcome | void>} run
 */
export function actionButton(label, attributes, outcome, run) {
  let isBusy = false;
  const button = h('button', attributes, label);
  button.addEventListener('click', async (event) => {
    event.preventDefault();
    if (isBusy || button.getAttribute('aria-disabled') === 'true') return;
    isBusy = true;
    button.setAttribute('aria-disabled', 'true');
    button.setAttribute('aria-busy', 'true');
    report(outcome, { tone: 'plain', text: `${label}: sent, waiting for the answer …` });
    try {
      report(outcome, (await run()) ?? null);
    } catch (error) {
      report(outcome, { tone: 'bad', text: `${label}: ${errorText(error)}` });
    }
    isBusy = false;
    button.removeAttribute('aria-busy');
    // The action took its own button away: who uses a keyboard goes on at the top.
    if (!button.isConnected) document.querySelector('h1')?.focus();
    block(button, button.dataset.blocked !== undefined);
  });
  return button;
}

/**
 * Blocks an action button, such as until a form is complete.
 *
 * @param {HTMLButtonElement} button
 * @param {boolean} isBlocked
 */
export function block(button, isBlocked) {
  if (isBlocked) button.dataset.blocked = '';
  else delete button.dataset.blocked;
  if (isBlocked || button.hasAttribute('aria-busy')) button.setAttribute('aria-disabled', 'true');
  else button.removeAttribute('aria-disabled');
}

/**
 * An {@link actionButton} behind a question: the first button only asks.
 *
 * @param {string} label
 * @param {string} question
 * @param {string} yes
 * @param {Element} outcome
 * @param {() => Promise<Outcome | void>} run
 */
export function confirmedButton(label, question, yes, outcome, run) {
  const ask = h('button', null, label);
  const close = () => {
    asked.hidden = true;
    ask.hidden = false;
    ask.focus();
  };
  const sure = actionButton(yes, { class: 'primary' }, outcome, async () => {
    const result = await run();
    close();
    return result;
  });
  const asked = h(
    'span',
    { hidden: true, class: 'asked', role: 'group', 'aria-label': question },
    h('span', null, `${question} `),
    sure,
    ' ',
    h('button', { onclick: close }, 'No'),
  );
  ask.addEventListener('click', () => {
    ask.hidden = true;
    asked.hidden = false;
    sure.focus();
  });
  asked.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') close();
  });
  return h('span', null, ask, asked);
}

const MARKS = { good: '✓', bad: '✕', doubt: '!', plain: '' };

/** @param {Element} node @param {Outcome | null} outcome */
export function report(node, outcome) {
  node.className = `outcome ${outcome?.tone ?? ''}`;
  const mark = outcome && MARKS[outcome.tone];
  fill(node, mark && h('span', { 'aria-hidden': 'true' }, `${mark} `), outcome?.text);
}

/** @param {unknown} error */
export function errorText(error) {
  return error instanceof Error ? error.message : String(error);
}

/**
 * The place for what came of an action; a screen reader reads it when it changes.
 */
export function outcomeRegion() {
  return h('p', { class: 'outcome', role: 'status' });
}
