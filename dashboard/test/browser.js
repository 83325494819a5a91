// Chromium, and what every step does with a page of it.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

/** Deadline of every wait, reached only on a failure. */
export const DEADLINE_MS = 60_000;

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const WIDTHS = [360, 1280, 2560];

export function launch() {
  return chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  });
}

export async function until(what, check) {
  const start = Date.now();
  for (;;) {
    const found = await check();
    if (found) return Date.now() - start;
    assert.ok(Date.now() - start < DEADLINE_MS, `not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A tab. */
export class Tab {
  /** What no page may do: errors, violations of its own policy, requests to elsewhere. */
  problems = [];
  requests = [];

  /** @param context of a browser @param address the only one that may be asked */
  static async open(context, address, initScript) {
    const tab = new Tab();
    tab.page = await context.newPage();
    if (initScript) await tab.page.addInitScript(initScript);
    tab.page.on('console', (message) => {
      const isStatus = message.text().startsWith('Failed to load resource');
      if (['error', 'warning'].includes(message.type()) && !isStatus) {
        tab.problems.push(message.text());
      }
    });
    tab.page.on('pageerror', (error) => tab.problems.push(String(error)));
    tab.page.on('request', (request) => {
      tab.requests.push(request);
      const isOwn = request.url().startsWith(address);
      if (!isOwn) tab.problems.push(`a request to ${request.url()}`);
    });
    tab.client = await context.newCDPSession(tab.page);
    return tab;
  }

  /** Evaluates in the page; the page's own policy does not stop the debugger. */
  async evaluate(expression) {
    const { result, exceptionDetails } = await this.client.send('Runtime.evaluate', {
      expression, awaitPromise: true, returnByValue: true,
    });
    if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
    return result.value;
  }

  text() {
    return this.evaluate("document.body?.innerText ?? ''");
  }

  async shows(part) {
    let text = '';
    try {
      return await until(part, async () => (text = await this.text()).includes(part));
    } catch (error) {
      throw new Error(`${error.message}; the page shows:\n${text}`);
    }
  }

  async go(view, part) {
    await this.evaluate(`location.hash = ${JSON.stringify(`#/${view}`)}`);
    if (part !== undefined) await this.shows(part);
  }

  /** Sends a request to the hub as the page does, with its token. */
  api(method, path, body, headers = {}) {
    return this.evaluate(`(async () => {
      const token = (await import('./api.js')).session;
      const answer = await fetch(token.api + ${JSON.stringify(path)}, {
        method: ${JSON.stringify(method)},
        headers: { 'x-doorfleet-token': token.token, ...${JSON.stringify(headers)} },
        body: ${body === undefined ? 'undefined' : JSON.stringify(JSON.stringify(body))},
      });
      return { status: answer.status, text: await answer.text() };
    })()`);
  }

  /** Of a form or a list: its first button or link with this text. */
  click(text, within = 'body') {
    const button = this.page.locator(within).locator('button:visible, a:visible, summary:visible');
    return button.filter({ hasText: text }).first().click();
  }

  hasPlan() {
    const isDrawn = "document.querySelector('canvas')?.width === 1200";
    return until('the plan', () => this.evaluate(isDrawn));
  }

  field(label) {
    const named = `label.field:has(> span:text-is(${JSON.stringify(label)}))`;
    return this.page.locator(named).locator('input, select');
  }

  async accessible(name) {
    if (!(await this.evaluate('Boolean(globalThis.axe)'))) await this.evaluate(AXE);
    const violations = await this.evaluate(
      `axe.run(document).then(({ violations }) =>
        violations.map(({ id, nodes }) => id + ': ' + nodes.map((node) => node.html).join(' ')))`,
    );
    assert.deepEqual(violations, [], name);
  }

  /** Light and dark, on a phone, a laptop and a wall: readable, and no wider than the screen. */
  async everywhere(name) {
    for (const colorScheme of ['light', 'dark']) {
      await this.page.emulateMedia({ colorScheme });
      for (const width of WIDTHS) {
        await this.page.setViewportSize({ width, height: width === 360 ? 780 : 900 });
        const file = `${name}-${colorScheme}-${width}`;
        const path = `${process.env.DOORFLEET_SHOTS}/${file}.png`;
        await this.page.screenshot({ path, fullPage: width === 360 });
        const wide = await this.evaluate('document.documentElement.scrollWidth - innerWidth');
        assert.ok(wide <= 0, `${file} is ${wide} px wider than the screen`);
        // Colours are those of every width, and layout is that of every colour.
        if (colorScheme === 'light' || width === 1280) await this.accessible(file);
      }
    }
    await this.page.emulateMedia({ colorScheme: 'light' });
    await this.page.setViewportSize({ width: 1280, height: 900 });
  }

  /** Presses Tab until what has the focus has this text or label. */
  async tabTo(text) {
    const named = `(() => {
      const node = document.activeElement;
      return (node.labels?.[0]?.innerText ?? node.innerText).trim();
    })()`;
    for (let steps = 0; steps < 60; steps += 1) {
      await this.page.keyboard.press('Tab');
      if ((await this.evaluate(named)).startsWith(text)) return;
    }
    assert.fail(`Tab does not reach ${text}`);
  }
}
