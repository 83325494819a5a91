// Keeps the store current: one event stream while the page is visible, or polls without events.

import { HubError, query, send, session, twin } from './api.js';
import { store } from './store.js';

/** Upper bounds of the waits between attempts; doubled each time, a wait is a random part. */
const FIRST_WAIT_MS = 250;
const MAX_WAIT_MS = 20_000;

/** Longest silence of a stream: the hub sends a comment every 15 s. */
const SILENCE_MS = 40_000;

/** Interval of reads where the hub has no events. */
export const POLL_MS = 30_000;

/** Twins that are read one by one; with more all are read. */
const MAX_STALE = 300;
const READERS = 4;

export class EventParser {
  #rest = '';
  #event = '';
  #id = /** @type {string | null} */ (null);
  #data = /** @type {string[]} */ ([]);

  /** @param {string} text */
  push(text) {
    const lines = (this.#rest + text).split('\n');
    this.#rest = /** @type {string} */ (lines.pop());
    const events = [];
    for (const raw of lines) {
      const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
      if (line === '') {
        if (this.#data.length > 0) {
          const [event, id] = [this.#event || 'message', this.#id];
          events.push({ event, id, data: this.#data.join('\n') });
        }
        this.#event = '';
        this.#data = [];
        continue;
      }
      const [, name, value] = /** @type {RegExpExecArray} */ (/^([^:]*):? ?(.*)$/s.exec(line));
      if (name === 'data') this.#data.push(value ?? '');
      else if (name === 'event') this.#event = value ?? '';
      else if (name === 'id') this.#id = value ?? '';
    }
    return events;
  }
}

/**
 * @typedef {'loading' | 'live' | 'polling' | 'broken'} Link
 */

class Live {
  constructor() {
    /** @type {Link} */
    this.link = 'loading';
    this.problem = '';
    /** @type {number | null} When the doors were read completely, or the last event came. */
    this.current = null;
    this.loaded = 0;
    /** @type {() => void} */
    this.onLink = () => {};
    /** @type {Set<(event: Json) => void>} */
    this.listeners = new Set();
    /** @type {string | null} */
    this.lastId = null;
    /** @type {Json[] | null} Events that wait until all pages are read. */
    this.buffer = [];
    /** @type {AbortSignal | null} The stream whose load of all doors runs. */
    this.loading = null;
    /** Whether all doors are to be read, once more if they are being read. */
    this.isOutdated = false;
    /** @type {unknown} Why the load failed. */
    this.failure = null;
    this.isLoaded = false;
    this.loads = 0;
    /** @type {AbortController | null} */
    this.abort = null;
    this.isRunning = false;
    /** @type {Set<string>} Twins to read. */
    this.stale = new Set();
    this.readers = 0;
    this.wait = FIRST_WAIT_MS;
    /** @type {(() => void) | null} */
    this.wake = null;
  }

  start() {
    document.addEventListener('visibilitychange', () => this.#follow());
    addEventListener('online', () => this.wake?.());
    this.#follow();
  }

  stop() {
    this.isRunning = false;
    this.abort?.abort();
    this.wake?.();
  }

  #follow() {
    if (document.visibilityState === 'hidden') this.stop();
    else if (!this.isRunning) {
      this.isRunning = true;
      this.#run();
    }
  }

  async #run() {
    const run = ++this.loads;
    while (this.isRunning && run === this.loads) {
      try {
        if (session.events) await this.#stream();
        else await this.#poll();
      } catch (error) {
        if (!this.isRunning || run !== this.loads) return;
        const text =
          error instanceof HubError ? error.message : 'the connection to the hub is lost';
        this.#link(this.isLoaded ? 'broken' : 'loading', text);
      }
      if (!this.isRunning || run !== this.loads) return;
      const wait = Math.random() * this.wait;
      this.wait = Math.min(this.wait * 2, MAX_WAIT_MS);
      await this.#sleep(session.events || this.problem ? wait : POLL_MS);
    }
  }

  /** @param {number} milliseconds */
  #sleep(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds, undefined);
      this.wake = () => {
        clearTimeout(timer);
        resolve(undefined);
      };
    });
  }

  /** @param {Link} link @param {string} [problem] */
  #link(link, problem = '') {
    if (this.link === link && this.problem === problem) return;
    this.link = link;
    this.problem = problem;
    this.onLink();
  }

  async #poll() {
    const twins = await this.#readAll();
    if (twins) store.replace(twins);
    this.isLoaded = true;
    this.current = Date.now();
    this.wait = FIRST_WAIT_MS;
    this.#link('polling');
  }

  /**
   * All twins; null if they are in the store already.
   *
   * @param {AbortSignal} [signal]
   */
  async #readAll(signal) {
    /** @type {Json[]} */
    const twins = [];
    this.loaded = 0;
    const isFirst = store.doors.size === 0;
    await query(
      'SELECT * FROM devices',
      (rows) => {
        for (const row of rows) twins.push(row);
        // What is known of a fleet is shown while the rest is read.
        if (isFirst) rows.forEach((row) => store.put(row));
        this.loaded = twins.length;
        if (!this.isLoaded) this.onLink();
      },
      signal,
    );
    return isFirst ? null : twins;
  }

  /** Opens the stream before the pages are read, so that no change is missed between. */
  async #stream() {
    const abort = new AbortController();
    this.abort = abort;
    if (this.lastId === null) this.isLoaded = false;
    /** @type {Record<string, string>} */
    const headers = this.lastId === null ? {} : { 'last-event-id': this.lastId };
    let silence = setTimeout(() => abort.abort(), SILENCE_MS);
    try {
      const answer = await send('GET', 'events', { headers, signal: abort.signal, timeout: 0 });
      if (!answer.body) throw new HubError(0, '', 'this browser cannot read event streams');
      if (this.isLoaded) this.#link('live');
      else this.#load(abort.signal);
      const parser = new EventParser();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        // The hub ends streams, such as after a change of policies: it is asked again at once.
        if (done) return;
        clearTimeout(silence);
        silence = setTimeout(() => abort.abort(), SILENCE_MS);
        this.current = Date.now();
        this.wait = FIRST_WAIT_MS;
        for (const item of parser.push(value)) this.#take(item, abort.signal);
      }
    } catch (error) {
      throw this.failure ?? error;
    } finally {
      this.failure = null;
      clearTimeout(silence);
      abort.abort();
    }
  }

  /**
   * @param {{ event: string, id: string | null, data: string }} item
   * @param {AbortSignal} signal
   */
  #take({ event, id, data }, signal) {
    if (id !== null && id !== '') this.lastId = id;
    if (event === 'lost') {
      this.isLoaded = false;
      this.#link('loading', 'the hub no longer has some events: reading all doors again');
      this.#load(signal);
      return;
    }
    /** @type {Json} */
    let document;
    try {
      document = JSON.parse(data);
    } catch {
      return;
    }
    if (this.buffer) this.buffer.push(document);
    else this.#apply(document);
  }

  /** @param {Json} event */
  #apply(event) {
    if (store.apply(event)) this.#reread(event.deviceId);
    for (const listener of this.listeners) listener(event);
  }

  /**
   * Reads all doors, then applies what was buffered; ends the stream if that fails.
   *
   * @param {AbortSignal} signal
   */
  async #load(signal) {
    this.buffer ??= [];
    this.isOutdated = true;
    if (this.loading === signal) return;
    this.loading = signal;
    try {
      /** @type {Json[] | null} */
      let twins = null;
      while (this.isOutdated) {
        this.isOutdated = false;
        twins = await this.#readAll(signal);
      }
      if (this.loading !== signal) return;
      if (twins) store.replace(twins);
      const buffered = this.buffer ?? [];
      this.buffer = null;
      this.isLoaded = true;
      this.current = Date.now();
      for (const event of buffered) this.#apply(event);
      this.#link('live');
    } catch (error) {
      if (signal.aborted) return;
      this.failure = error;
      this.abort?.abort();
    } finally {
      if (this.loading === signal) this.loading = null;
    }
  }

  /**
   * Reads a twin whose event does not follow from what is known.
   *
   * @param {string} id
   */
  #reread(id) {
    if (!id) return;
    this.stale.add(id);
    if (this.stale.size > MAX_STALE && this.abort) {
      this.stale.clear();
      this.#load(this.abort.signal);
      return;
    }
    if (this.readers < READERS) this.#read();
  }

  async #read() {
    this.readers += 1;
    for (const id of this.stale) {
      this.stale.delete(id);
      try {
        store.put(await twin(id));
      } catch (error) {
        // Outside of the policy's bounds, or removed meanwhile.
        if (error instanceof HubError && error.status === 404) store.remove(id);
      }
    }
    this.readers -= 1;
  }

  /** Reads all doors now, as after an order whose result no event brings. */
  refresh() {
    if (!session.events) this.wake?.();
  }
}

export const live = new Live();
