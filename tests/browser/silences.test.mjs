// Silences and holds: what they hide is seen before and after they are made, with and without scripts.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { launch, open, sizes, until, URL } from './browser.mjs';

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

const listed = async () => (await (await fetch(`${URL}/api/v2/silences`)).json());

test('what keeps quiet is listed, oldest first, with what it hides', async () => {
  const { page, wrong, close } = await open(browser, '/silences');
  const rows = page.locator('#leases .row');
  const texts = await rows.allTextContents();
  assert.match(texts[0], /cluster="east".*night-watch: the power of rack 4.*hides 61 alerts now/s);
  assert.match(texts[0], /for 25 h/);
  assert.ok(texts[1].includes('Disk.*'), 'the second is younger');
  assert.ok(texts.some((text) => text.includes('hold on') && text.includes('release 42')), 'holds stand among them');
  const hidden = rows.first().locator('.named li');
  assert.equal(await hidden.first().isVisible(), false, 'closed at first');
  await rows.first().locator('.hides summary').click();
  assert.equal(await hidden.count(), 51, 'so many are named');
  assert.equal(await hidden.last().textContent(), 'and 11 more');
  assert.match(await page.textContent('#planned'), /service="billing".*month's end.*begins in (20 h|19 h)/s);
  assert.deepEqual(wrong, []);
  await close();
});

test('what a silence would hide is seen while its labels are typed', async () => {
  const { page, wrong, close } = await open(browser, '/silences');
  assert.match(await page.textContent('#preview'), /alerts fire now; name labels/);
  await page.fill('#matchers', 'cluster="east"\nhost=~"rack4-1.?"');
  await until(async () => /would hide 11 of the \d+ alerts/.test(await page.textContent('#preview')), 'the preview');
  assert.ok((await page.textContent('#preview')).includes('rack4-17 runs on one feed'));
  await page.fill('#matchers', 'host=~"("');
  await until(async () => (await page.locator('#preview .bad').count()) === 1, 'the error');
  assert.equal(await page.inputValue('#matchers'), 'host=~"("', 'what was typed stays');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'matchers', 'the focus stays');
  assert.deepEqual(wrong, []);
  await close();
});

test('a silence is made, extended and ended in place', async () => {
  const { page, wrong, close } = await open(browser, '/silences?matchers=' + encodeURIComponent('service="till"'));
  assert.match(await page.textContent('#preview'), /would hide none of the \d+ alerts/);
  await page.fill('#make input[name=owner]', 'night-watch');
  await page.fill('#make input[name=comment]', 'new <i>tills</i>');
  await page.click('#make button[value=put_silence]');
  await until(async () => (await page.textContent('#said-make')).includes('Silenced'), 'the outcome');
  const row = page.locator('#leases .row', { hasText: 'service="till"' });
  await until(async () => (await row.count()) === 1, 'the row');
  assert.match(await row.textContent(), /night-watch: new <i>tills<\/i>/);
  assert.match(await row.textContent(), /ends in (2 h|1 h 59 min|119 min)/);
  const [made] = (await listed()).filter((silence) => silence.comment === 'new <i>tills</i>');
  assert.equal(made.createdBy, 'night-watch');
  await row.locator('summary', { hasText: 'Extend…' }).click();
  await row.locator('select').selectOption('24h');
  await row.locator('button', { hasText: 'Extend' }).click();
  await until(async () => /ends in (1 d|24 h|23 h)/.test(await row.textContent()), 'the later end');
  const after = (await listed()).filter((silence) => silence.comment === made.comment);
  assert.deepEqual(after.map(({ id, startsAt, createdBy }) => ({ id, startsAt, createdBy })), [{ id: made.id, startsAt: made.startsAt, createdBy: made.createdBy }], 'it is the same one');
  await row.locator('summary', { hasText: /^End…/ }).click();
  await row.locator('button', { hasText: 'End it now' }).click();
  await until(async () => (await row.count()) === 0, 'the end');
  assert.deepEqual(wrong, []);
  await close();
});

test('without scripts a phone looks first, is asked for owner and reason, and makes a silence', async () => {
  const { page, wrong, close } = await open(browser, '/silences', { scripts: false, size: sizes.phone });
  await page.fill('#matchers', 'host="rack4-3"');
  await page.click('text=Look what it would hide');
  assert.match(await page.textContent('#preview'), /would hide 1 of the/);
  assert.equal(await page.inputValue('#matchers'), 'host="rack4-3"');
  await page.click('#make button[value=put_silence]');
  assert.equal(await page.evaluate(() => document.querySelector('#make input:invalid')?.name), 'owner', 'the browser asks for it');
  await page.fill('#make input[name=owner]', 'night-watch');
  await page.fill('#make input[name=comment]', 'one feed is enough');
  await page.click('#make button[value=put_silence]');
  assert.ok((await page.textContent('#said')).includes('Silenced'), page.url());
  assert.ok((await page.textContent('#leases')).includes('one feed is enough'));
  assert.deepEqual(wrong, []);
  await close();
});

test('an incident leads to a silence of what its alerts share', async () => {
  const { page, wrong, close } = await open(browser, '/incident/7');
  await page.locator('a', { hasText: 'Silence' }).filter({ hasText: 'service="web"' }).click();
  assert.equal(await page.inputValue('#matchers'), 'service="web"');
  assert.match(await page.textContent('#preview'), /would hide \d+ of the/);
  await page.goto(`${URL}/`);
  await page.waitForFunction(() => document.querySelector('#live')?.textContent === 'live');
  await page.keyboard.press('q');
  await page.waitForURL(`${URL}/silences`);
  assert.deepEqual(wrong, []);
  await close();
});
