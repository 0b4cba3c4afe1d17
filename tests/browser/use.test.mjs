// What can be done: ack with and without scripts, by keyboard alone, while the page lives.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { launch, open, sizes, until, URL } from './browser.mjs';

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

const incident = async (id) => (await (await fetch(`${URL}/api/incidents/${id}`)).json());

test('without scripts a phone reads everything and acknowledges in two taps', async () => {
  const { page, wrong, close } = await open(browser, '/incident/6', { scripts: false, size: sizes.phone });
  assert.ok((await page.textContent('h1')).includes('queue workers are stuck'));
  await page.click('text=Ack…');
  await page.click('text=Acknowledge');
  assert.ok(page.url().endsWith('/incident/6?done=ack#said'), page.url());
  assert.ok((await page.textContent('#said')).includes('Acknowledged'));
  assert.match(await page.textContent('.facts'), /web, ends in (1 h|59 min)/, 'the page shows it at once');
  assert.equal((await incident(6)).acked[0], 'web');
  assert.deepEqual(wrong, []);
  await close();
});

test('with scripts the outcome is shown in place, and the page goes on living', async () => {
  const { page, wrong, close } = await open(browser, '/');
  const row = page.locator('#row-i9');
  await row.locator('summary', { hasText: 'Ack…' }).click();
  await row.locator('select').first().selectOption('2h');
  await row.locator('input[name=comment]').first().fill('I look <b>at it</b>');
  await row.locator('button', { hasText: 'Acknowledge' }).click();
  await until(async () => (await row.textContent()).includes('Acknowledged.'), 'the outcome in place');
  await until(async () => (await row.textContent()).includes('web looks after it'), 'the new state in place');
  assert.equal(page.url(), `${URL}/`);
  const told = (await incident(9)).timeline.map((entry) => entry.text);
  assert.ok(told.includes('web looks after it: I look <b>at it</b>'), told.join());
  assert.deepEqual(wrong, []);
  await close();
});

test('a refusal is said in words and nothing changes', async () => {
  const { page, close } = await open(browser, '/');
  const all = page.locator('#acts-all');
  await all.locator('summary', { hasText: 'Hold…' }).click();
  await all.locator('#act-all-hold textarea').fill('this is not a matcher');
  await all.locator('#act-all-hold button.go').click();
  await until(async () => (await page.textContent('#said-all')).includes('is not a matcher'), 'the refusal');
  assert.equal(await page.inputValue('#act-all-hold textarea'), 'this is not a matcher', 'what was typed stays');
  await close();
});

test('a hold can be made and ended', async () => {
  const { page, wrong, close } = await open(browser, '/incident/7');
  await page.click('text=Hold…');
  assert.ok((await page.textContent('#act-i7-hold form')).includes('service="web"'), 'it says to what');
  await page.click('#act-i7-hold button.go');
  await until(async () => (await page.textContent('#said-i7')).includes('Held'), 'the hold');
  await page.goto(`${URL}/`);
  const row = page.locator('#leases .row', { hasText: 'service="web"' });
  await row.locator('summary').click();
  await row.locator('button.go').click();
  await until(async () => (await row.count()) === 0, 'the release');
  assert.deepEqual(wrong, []);
  await close();
});

test('what is new appears by itself, is marked, and disturbs nobody', async () => {
  const { page, wrong, close } = await open(browser, '/incident/7');
  const entries = () => page.locator('.entry').count();
  // Something is open, something is typed, something has the focus.
  await page.click('.entry summary >> nth=0');
  await page.click('#act-i7-ack > summary');
  await page.fill('#act-i7-ack input[name=comment]', 'half a sen');
  const before = await entries();
  await page.evaluate(() => { document.querySelector('.entry').marked = true; });
  await until(async () => (await entries()) > before, 'a new entry');
  assert.ok(await page.locator('.entry[data-new]').count() >= 1, 'it is marked as new');
  assert.equal(await page.inputValue('#act-i7-ack input[name=comment]'), 'half a sen');
  assert.equal(await page.evaluate(() => document.activeElement.name), 'comment');
  assert.ok(await page.locator('.entry details[open]').count() >= 1, 'what was opened stays open');
  assert.ok(await page.evaluate(() => document.querySelector('.entry').marked), 'old rows are not replaced');
  await page.keyboard.press('Escape');
  await page.evaluate(() => document.querySelector('.entry[data-new]').scrollIntoView());
  await page.mouse.move(200, 200);
  await until(async () => { await page.mouse.move(200 + Math.random() * 50, 200); return (await page.locator('.entry[data-new]').count()) < 2; }, 'seen marks go');
  assert.deepEqual(wrong, []);
  await close();
});

test('times and countdowns count on between updates, in the words of the server', async () => {
  const { page, close } = await open(browser, '/');
  const read = () => page.evaluate(() => [document.querySelector('.clock time').textContent, document.querySelector('.count').textContent]);
  const [clock, count] = await read();
  assert.match(clock, /^\d\d:\d\d:\d\d$/);
  assert.match(count, /^\d+:\d\d$/);
  await until(async () => { const [c, d] = await read(); return c !== clock && d !== count; }, 'time goes on');
  const bad = await page.evaluate(() => [...document.querySelectorAll('time')].filter((t) => !t.title || !t.dateTime && t.dataset.rel !== 'clock').length);
  assert.equal(bad, 0, 'every time has its exact form');
  await close();
});

test('everything can be reached and used by keyboard', async () => {
  const { page, wrong, close } = await open(browser, '/');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
  // Round the page by Tab: each stop can be seen, and all that can be used is a stop.
  const wanted = await page.evaluate(() => [...document.querySelectorAll('main a[href], main summary, main button')].filter((el) => el.checkVisibility() && !el.closest('details:not([open]) > form')).length);
  const stops = new Set();
  for (let i = 0; i < wanted + 30; i++) {
    await page.keyboard.press('Tab');
    const at = await page.evaluate(() => {
      const el = document.activeElement;
      if (!el.closest('main')) return null;
      const style = getComputedStyle(el);
      const place = [...document.querySelectorAll('main a[href], main summary, main button')].indexOf(el);
      return { place, outline: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2, tag: el.outerHTML.slice(0, 80) };
    });
    if (!at) continue;
    assert.ok(at.outline, `the focus cannot be seen on ${at.tag}`);
    stops.add(at.place);
  }
  assert.ok(stops.size >= wanted, `${stops.size} of ${wanted} are stops`);
  await page.keyboard.press('?');
  assert.ok(await page.locator('dialog#keys').isVisible());
  await page.keyboard.press('Escape');
  await page.keyboard.press('j');
  const first = await page.evaluate(() => document.activeElement.getAttribute('href'));
  assert.match(first, /^\/incident\/\d+$/);
  await page.keyboard.press('Enter');
  await page.waitForURL(`${URL}${first}`);
  await page.keyboard.press('s');
  await page.waitForURL(`${URL}/sources`);
  await page.keyboard.press('n');
  await page.waitForURL(`${URL}/`);
  assert.deepEqual(wrong, []);
  await close();
});

test('landmarks, names and one heading of the first rank', async () => {
  for (const path of ['/', '/incident/7', '/sources', '/login']) {
    const { page, close } = await open(browser, path, { scripts: false });
    const found = await page.evaluate(() => ({
      lang: document.documentElement.lang,
      main: document.querySelectorAll('main').length,
      h1: document.querySelectorAll('h1').length,
      nameless: [...document.querySelectorAll('button, a, summary, input:not([type=hidden]), select, textarea')]
        .filter((el) => !(el.textContent.trim() || el.getAttribute('aria-label') || el.labels?.length)).map((el) => el.outerHTML.slice(0, 90)),
      twice: [...document.querySelectorAll('[id]')].map((el) => el.id).filter((id, i, all) => all.indexOf(id) !== i),
    }));
    assert.deepEqual(found, { lang: 'en', main: 1, h1: 1, nameless: [], twice: [] }, path);
    await close();
  }
});

test('a range that is dragged stands in the address, and a double click ends it', async () => {
  const { page, wrong, close } = await open(browser, '/incident/7');
  const canvas = page.locator('.plot .u-over').first();
  await canvas.waitFor();
  const box = await canvas.boundingBox();
  await page.mouse.move(box.x + box.width * 0.3, box.y + 40);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.6, box.y + 45, { steps: 5 });
  await page.mouse.up();
  await until(() => page.url().includes('from='), 'the range in the address');
  await page.reload();
  await page.waitForSelector('.plot .u-over');
  assert.ok(page.url().includes('from='));
  await page.locator('.plot .u-over').first().dblclick({ position: { x: 30, y: 30 } });
  await until(() => !page.url().includes('from='), 'the whole range again');
  assert.deepEqual(wrong, []);
  await close();
});
