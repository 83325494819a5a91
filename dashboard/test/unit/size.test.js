// The page loads fast on a phone: the bound of all its files together, each compressed by itself.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';

const WEB = new URL('../../web/', import.meta.url);
const MAX_BYTES = 60_000;

test('the files of the page have less than 60,000 bytes gzipped', () => {
  const sizes = readdirSync(WEB).map((name) => [
    name,
    gzipSync(readFileSync(new URL(name, WEB)), { level: 9 }).length,
  ]);
  const total = sizes.reduce((sum, [, size]) => sum + size, 0);
  assert.ok(total < MAX_BYTES, `${total} bytes: ${sizes.map((pair) => pair.join(' ')).join(', ')}`);
});
