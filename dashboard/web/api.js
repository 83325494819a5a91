// Requests to the hub, by way of the server of this page.

import { isoSecond } from './words.js';

/** Longest wait for an answer; a method call has its own timeouts and may take longer. */
const TIMEOUT_MS = 60_000;

/** Rows of a page of a query: the most that a hub gives. */
const PAGE = 1000;

const VERSION = 'api-version=2021-04-12';

export class HubError extends Error {
  /** @param {number} status 0: no answer @param {string} code @param {string} message */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** @type {Session} */
export let session = {
  token: '',
  api: '',
  hub: '',
  policy: '',
  bounds: null,
  events: false,
  zone: 'UTC',
};

let onSignedOut = () => {};

/** How long after a key or a click somebody counts as using the page. */
const PRESENT_MS = 60_000;

let usedAt = Date.now();

/** Notes that somebody uses the page: a session of door-hub that nobody uses ends. */
export function used() {
  usedAt = Date.now();
}

/** @returns {Record<string, string>} */
export function presence() {
  return Date.now() - usedAt < PRESENT_MS ? { 'x-doorfleet-person': '1' } : {};
}

/** How far the hub's clock is ahead of this machine's, in milliseconds. */
let clockAhead = 0;

/** @param {Session} begun @param {() => void} signedOut */
export function begin(begun, signedOut) {
  session = begun;
  onSignedOut = signedOut;
}

export function hubNow() {
  return Date.now() + clockAhead;
}

/**
 * The hub's time as commands carry it, `after` seconds later: in whole seconds, rounded down.
 *
 * @param {number} [after]
 */
export function hubTime(after = 0) {
  return isoSecond(hubNow() + after * 1000);
}

/**
 * What the policy may do; the hub decides, this only hides buttons.
 */
export const may = {
  /** @param {string} method */
  call: (method) => allows('methods', method),
  /** @param {string} name */
  desire: (name) => allows('desired', name),
  /** @param {string} name */
  tag: (name) => allows('tags', name),
  lockDown: () => may.call('lockdown') && may.desire('lockdown'),
  everything: () => session.bounds === null,
};

/** @param {'methods' | 'desired' | 'tags'} list @param {string} name */
function allows(list, name) {
  const { bounds } = session;
  if (bounds === null) return true;
  return bounds.access === 'operate' && (bounds[list] ?? []).includes(name);
}

/**
 * Sends a request; a status of 400 and more is a {@link HubError}.
 *
 * @param {string} method
 * @param {string} path without a leading slash
 * @param {{ body?: unknown, headers?: Record<string, string>, signal?: AbortSignal,
 *   timeout?: number }} [options] a timeout of 0 is none
 */
export async function send(method, path, options = {}) {
  /** @type {Record<string, string>} */
  const headers = {
    'x-doorfleet-token': session.token,
    ...presence(),
    ...options.headers,
  };
  /** @type {BodyInit | undefined} */
  let body;
  if (options.body instanceof Blob) body = options.body;
  else if (options.body !== undefined) {
    body = JSON.stringify(options.body);
    headers['content-type'] = 'application/json';
  }
  const { signal, timeout = TIMEOUT_MS } = options;
  const limits = timeout > 0 ? [AbortSignal.timeout(timeout)] : [];
  if (signal) limits.push(signal);
  let response;
  try {
    response = await fetch(session.api + path, {
      method,
      headers,
      body,
      signal: AbortSignal.any(limits),
      cache: 'no-store',
      credentials: 'same-origin',
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    const isLate = error instanceof DOMException && error.name === 'TimeoutError';
    throw new HubError(
      0,
      '',
      isLate
        ? 'the hub did not answer in time; whether it acted is unknown'
        : 'the hub cannot be reached',
    );
  }
  readClock(response);
  if (response.ok) return response;
  const text = await response.text().catch(() => '');
  const name = response.headers.get('iothub-errorcode') ?? '';
  const refused = errorOf(response.status, name, text);
  // The same status as for a session that is over.
  const isRight = refused.message.includes('does not allow access');
  if (response.status === 401 && !isRight) onSignedOut();
  throw refused;
}

/** @param {string} method @param {string} path @param {Parameters<typeof send>[2]} [options] */
export async function json(method, path, options) {
  const response = await send(
    method,
    `${path}${path.includes('?') ? '&' : '?'}${VERSION}`,
    options,
  );
  return response.status === 204 ? null : response.json();
}

/** @param {Response} response */
export function readClock(response) {
  const at = Date.parse(response.headers.get('date') ?? '');
  if (Number.isNaN(at)) return;
  const ahead = at - Date.now();
  // `Date` has whole seconds: within these the clocks agree.
  clockAhead = ahead > 0 || ahead < -2_000 ? ahead : 0;
}

/**
 * Reads an error in either of IoT Hub's two forms.
 *
 * @param {number} status
 * @param {string} name
 * @param {string} text
 */
export function errorOf(status, name, text) {
  let message = '';
  try {
    const body = JSON.parse(text);
    message = String(body.Message ?? body.message ?? '');
    if (message.startsWith('{')) message = String(JSON.parse(message).message ?? message);
  } catch {
    // A proxy answered with a body of its own.
  }
  const coded = /^ErrorCode:([^;]*);(.*)$/s.exec(message);
  const code = name || coded?.[1] || '';
  if (!code && status >= 502) {
    return new HubError(status, code, `the hub cannot be reached (${status})`);
  }
  const words = (coded?.[2] ?? message).trim();
  if (code === 'HubUnavailable') {
    // Of doorctl's chain of causes a person wants the first and the last.
    const causes = words.split(': ');
    return new HubError(status, code, [causes[0], ...causes.slice(1).slice(-1)].join(': '));
  }
  return new HubError(status, code, `${code || 'error'} (${status})${words && `: ${words}`}`);
}

/**
 * Reads all rows of a query, page by page: the next page is on its way while one is read.
 *
 * @param {string} query
 * @param {(rows: any[]) => void} onPage
 * @param {AbortSignal} [signal]
 */
export async function query(query, onPage, signal) {
  /** @param {string} continuation */
  const page = (continuation) => {
    /** @type {Record<string, string>} */
    const headers = { 'x-ms-max-item-count': String(PAGE) };
    if (continuation) headers['x-ms-continuation'] = continuation;
    return send('POST', `devices/query?${VERSION}`, { body: { query }, headers, signal });
  };
  /** @type {Promise<Response> | null} */
  let next = page('');
  while (next) {
    /** @type {Response} */
    const response = await next;
    const continuation = response.headers.get('x-ms-continuation');
    next = continuation ? page(continuation) : null;
    // If this page fails, nobody waits for the next one.
    next?.catch(() => {});
    onPage(await response.json());
  }
}

/** @param {string} id */
export function twin(id) {
  return json('GET', `twins/${encodeURIComponent(id)}`);
}

/**
 * @param {string} id
 * @param {Json} patch
 * @param {string} [etag] only if the twin still has it
 * @param {Record<string, string>} [headers]
 */
export function patchTwin(id, patch, etag, headers = {}) {
  /** @type {Record<string, string>} */
  const condition = etag === undefined ? {} : { 'if-match': `"${etag}"` };
  return json('PATCH', `twins/${encodeURIComponent(id)}`, {
    body: patch,
    headers: { ...condition, ...headers },
  });
}

const CONNECT_S = 10;
const RESPONSE_S = 30;

/** @param {string} methodName @param {Json | null} payload */
export function methodCall(methodName, payload) {
  return {
    methodName,
    connectTimeoutInSeconds: CONNECT_S,
    responseTimeoutInSeconds: RESPONSE_S,
    payload,
  };
}

/**
 * @param {string} id
 * @param {string} method
 * @param {Json | null} payload
 * @param {string} [reason]
 */
export function invoke(id, method, payload, reason = '') {
  return json('POST', `twins/${encodeURIComponent(id)}/methods`, {
    body: methodCall(method, payload),
    headers: reasonHeader(reason),
  });
}

/**
 * A reason as doors and the audit log take it: 256 bytes. A longer one would be refused, and the
 * command with it.
 *
 * @param {string} text
 */
export function shortened(text) {
  let reason = text.trim();
  while (new TextEncoder().encode(reason).length > 256) reason = [...reason].slice(0, -1).join('');
  return reason;
}

/** @param {string} reason @returns {Record<string, string>} */
export function reasonHeader(reason) {
  return reason ? { 'x-audit-reason': encodeURIComponent(reason) } : {};
}

/** Letters that are easy to tell apart when read aloud. */
const ALPHABET = '23456789abcdefghjkmnpqrstuvwxyz';

/**
 * An id of a command or job: `lock-20261123-220000-x7k2`.
 *
 * @param {string} what
 */
export function newId(what) {
  const at = hubTime().replace(/[-:Z]/g, '').replace('T', '-');
  const random = crypto.getRandomValues(new Uint8Array(6));
  const suffix = [...random].map((byte) => ALPHABET[byte % ALPHABET.length]).join('');
  return `${what}-${at}-${suffix}`;
}

/**
 * @template T, R
 * @param {readonly T[]} items
 * @param {(item: T) => Promise<R>} run
 * @param {number} [limit]
 */
export async function each(items, run, limit = 8) {
  /** @type {R[]} */
  const results = new Array(items.length);
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next++;
      results[index] = await run(/** @type {T} */ (items[index]));
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  return results;
}
