// load.js ADDRESS DOORS - how long a browser takes until the page at the address shows so many
// doors: prints the seconds of each of five visits as JSON.

import { launch } from './browser.js';

const VISITS = 5;

const [address, doors] = process.argv.slice(2);
const shown = `${Number(doors).toLocaleString('en')} doors`;
const browser = await launch();
const taken = [];
for (let visit = 0; visit < VISITS; visit++) {
  const context = await browser.newContext();
  const page = await context.newPage();
  const start = performance.now();
  await page.goto(address);
  await page.getByText(shown).first().waitFor();
  taken.push((performance.now() - start) / 1000);
  await context.close();
}
await browser.close();
console.log(JSON.stringify(taken));
