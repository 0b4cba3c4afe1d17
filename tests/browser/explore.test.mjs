// Explore: a query is completed, asked, drawn, shared; what is wrong with it is shown in its place.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { launch, open, sizes, until, URL } from './browser.mjs';

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

const at = (query, more = '') => `/explore?query=${encodeURIComponent(query)}${more}`;
const offers = (page) => page.locator('#offers:not([hidden]) li bdi').allTextContents();
/// What is typed is completed; the list comes when the answer is there.
const typed = async (page, text, wanted) => {
  await page.locator('#query').pressSequentially(text);
  await until(async () => (await offers(page)).includes(wanted), `${wanted} among ${await offers(page)}`);
};

test('by keyboard alone: metric, label, value and function are completed and the answer stands in the address', async () => {
  const { page, wrong, close } = await open(browser, '/explore');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'query', 'one can type at once');
  await typed(page, 'rat', 'rate');
  await page.keyboard.press('Enter');
  assert.equal(await page.inputValue('#query'), 'rate(');
  await typed(page, 'node_c', 'node_cpu_seconds_total');
  await page.keyboard.press('Tab');
  await typed(page, '{m', 'mode');
  await page.keyboard.press('Enter');
  await typed(page, '="', 'idle');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('Enter');
  await page.locator('#query').pressSequentially('"}[1m])');
  assert.equal(await page.inputValue('#query'), 'rate(node_cpu_seconds_total{mode="idle"}[1m])');
  await page.keyboard.press('Escape');
  await Promise.all([page.waitForURL(/query=rate/), page.keyboard.press('Enter')]);
  assert.equal(page.url(), `${URL}/explore?query=rate%28node_cpu_seconds_total%7Bmode%3D%22idle%22%7D%5B1m%5D%29&range=1h`);
  await until(() => page.locator('#course[data-drawn] canvas').count(), 'the course');
  assert.deepEqual(await page.locator('.values tbody th').allTextContents(), ['{cpu="0", mode="idle"}', '{cpu="1", mode="idle"}']);
  assert.deepEqual(wrong, []);
  await close();
});

test('a metric that is offered says what it is, and hostile words stay words', async () => {
  const { page, wrong, close } = await open(browser, '/explore');
  await typed(page, 'node_cpu', 'node_cpu_seconds_total');
  const said = await page.locator('#offers li', { hasText: 'node_cpu_seconds_total' }).locator('small').textContent();
  assert.ok(said.startsWith('counter · <script>alert(1)</script>'), said);
  await page.fill('#query', '');
  const hostile = await page.evaluate(async () => (await (await fetch('/api/v1/label/text/values')).json()).data[0]);
  await typed(page, 'hostile_texts{text="', hostile);
  await page.keyboard.press('Enter');
  await page.locator('#query').pressSequentially('"}');
  await page.keyboard.press('Escape');
  await Promise.all([page.waitForURL(/hostile/), page.keyboard.press('Enter')]);
  await until(() => page.locator('#course[data-drawn] canvas').count(), 'the course');
  assert.equal(await page.locator('.values tbody th').count(), 1, 'what was completed is a query that finds it');
  assert.equal(await page.locator('main img, main script').count(), 0);
  assert.deepEqual(wrong, []);
  await close();
});

test('without scripts it is a form, with a picture and a table', async () => {
  const { page, wrong, close } = await open(browser, '/explore', { scripts: false, size: sizes.phone });
  await page.fill('#query', 'http_inflight');
  await page.selectOption('select[name=range]', '3h');
  await page.click('text=Ask');
  assert.match(page.url(), /query=http_inflight&range=3h/);
  assert.equal(await page.locator('svg.evidence path.line').count(), 1);
  assert.match(await page.textContent('.values'), /http_inflight\{instance="host-1:8080", service="web"\}/);
  await page.click('text=narrower');
  assert.match(page.url(), /range=1h30m&end=/);
  assert.equal(await page.inputValue('select[name=range]'), '1h30m');
  await page.click('text=now');
  assert.ok(!page.url().includes('end='));
  assert.deepEqual(wrong, []);
  await close();
});

test('an error points into the query, and a remark says where', async () => {
  const { page, close } = await open(browser, at('sum by (cpu) (\n  rat(node_cpu_seconds_total[5m])\n)'));
  assert.equal(await page.textContent('.fault .at'), 'rat');
  assert.match(await page.textContent('.fault .outcome'), /2:3: unknown function `rat`; did you mean `rate`\?/);
  assert.equal(await page.inputValue('#query'), 'sum by (cpu) (\n  rat(node_cpu_seconds_total[5m])\n)', 'what was asked stays');
  await page.goto(URL + at('sum(up'));
  assert.equal(await page.textContent('.fault .at'), '\u00a0', 'the end is a place, too');
  await page.goto(URL + at('node_load1 + on () group_left node_load1 * on () hostile_texts + {__name__=~"node.*"}'));
  assert.ok((await page.textContent('.fault .outcome')).length > 10);
  await page.goto(URL + at('quantile(2, http_inflight)'));
  assert.match(await page.textContent('.remarks'), /quantile value should be between 0 and 1, got 2 at 1:10, 2/);
  await page.goto(URL + at('http_inflight', '&range=soon'));
  assert.match(await page.textContent('main'), /range: `soon` is no length of time/);
  await close();
});

test('a part that is dragged over is looked at closer, and going back goes back', async () => {
  const { page, wrong, close } = await open(browser, at('http_inflight', '&range=1h'));
  await until(() => page.locator('#course canvas').count(), 'the course');
  const area = await page.locator('#course .u-over').boundingBox();
  await page.mouse.move(area.x + area.width * .5, area.y + 50);
  await page.mouse.down();
  await page.mouse.move(area.x + area.width * .75, area.y + 60, { steps: 5 });
  await Promise.all([page.waitForURL(/end=/), page.mouse.up()]);
  const range = new URLSearchParams(new globalThis.URL(page.url()).search).get('range');
  assert.ok(Math.abs(parseInt(range, 10) - 900) < 60, range);
  await page.goBack();
  assert.match(page.url(), /range=1h$/);
  assert.deepEqual(wrong, []);
  await close();
});

test('what has no course has a table: texts, windows, nothing', async () => {
  const { page, wrong, close } = await open(browser, at('"a <b>text</b>"'));
  assert.match(await page.textContent('.values'), /a <b>text<\/b>/);
  await page.goto(URL + at('node_load1[30s]'));
  assert.equal(await page.locator('.values tbody tr').count(), 1);
  assert.equal(await page.locator('#course').count(), 0);
  await page.goto(URL + at('there_is_no_such_thing'));
  assert.match(await page.textContent('main'), /no series has a value at this time/);
  assert.deepEqual(wrong, []);
  await close();
});

test('the page is reached from every page, and by its key', async () => {
  const { page, close } = await open(browser, '/sources');
  await Promise.all([page.waitForURL(/explore/), page.keyboard.press('e')]);
  await page.click('nav.rail >> text=Now');
  await page.click('nav.rail >> text=Explore');
  assert.ok(page.url().endsWith('/explore'));
  await close();
});
