// Who is told: what failed is seen first, a channel can be tried, a route can be followed.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { launch, open, sizes, until, URL } from './browser.mjs';

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

test('what failed stands first, with the far side\'s words; then what waits, with its next try', async () => {
  const { page, wrong, close } = await open(browser, '/notify');
  const rows = await page.locator('#rows tbody tr').allTextContents();
  assert.ok(rows.length >= 4, rows.join('\n'));
  assert.match(rows[0], /given up: <script>alert\(1\)/);
  assert.match(rows[1], /ops\/email\[0\].*refused for good: 550 5\.1\.1/s);
  assert.match(rows[2], /night\/webhook\[0\].*not taken yet: connection refused, next try/s);
  assert.match(rows[3], /ops\/webhook\[0\].*accepted: HTTP 200.*queue workers/s);
  assert.match(await page.textContent('h1'), /2 failed\s+.*1 retried\s+.*accepted/s);
  await page.locator('#rows tr', { hasText: 'ops/webhook[0]' }).locator('details summary').first().click();
  assert.match(await page.locator('#tries-31').textContent(), /not now in 212 ms: HTTP 503.*accepted in 212 ms/s);
  assert.deepEqual(wrong, []);
  await close();
});

for (const scripts of [true, false]) {
  test(`messages are filtered by state and receiver ${scripts ? 'at once' : 'without scripts'}`, async () => {
    const { page, wrong, close } = await open(browser, '/notify', { scripts });
    const rows = page.locator('#rows tbody tr');
    await page.locator('select[name=state]').selectOption('failed');
    await page.locator('select[name=receiver]').selectOption('ops');
    if (!scripts) await page.click('#ledger button');
    await until(async () => (await rows.count()) < 3 && !(await rows.allTextContents()).some((text) => text.includes('accepted:')), 'the filter');
    assert.ok((await rows.allTextContents()).some((text) => text.includes('550 5.1.1')));
    await page.locator('select[name=receiver]').selectOption('night');
    if (!scripts) await page.click('#ledger button');
    await until(async () => (await page.textContent('#rows')).includes('no message like this'), 'nothing left');
    assert.deepEqual(wrong, []);
    await close();
  });
}

test('a channel shows its last truth, and is tried for real', async () => {
  const { page, wrong, close } = await open(browser, '/notify');
  const row = page.locator('#channels .row', { hasText: 'ops/email[0]' });
  assert.match(await row.textContent(), /refused a message.*550 5\.1\.1.*if it cannot be reached, after 5 min night.*1 failed/s);
  const daily = page.locator('#channels .row', { hasText: 'daily/email[0]' });
  assert.match(await daily.textContent(), /was not used yet.*below error in a digest/s);
  await daily.locator('summary').click();
  await daily.locator('button.go').click();
  await until(async () => (await daily.textContent()).includes('daily/email[0] took it (41 ms): 200 OK'), 'the outcome');
  await until(async () => (await page.textContent('#rows')).includes('TEST: a message of Daruma'), 'the test in the ledger');
  assert.deepEqual(wrong, []);
  await close();
});

test('labels light the path they take, and what keeps it quiet is said', async () => {
  const { page, wrong, close } = await open(browser, '/notify');
  assert.equal(await page.locator('.tree .lit').count(), 0);
  assert.match(await page.textContent('.tree'), /team="web".*silent now: within working days/s);
  await page.fill('#labels', 'cluster=east\nseverity=warning');
  await until(async () => (await page.locator('.tree .lit').count()) === 3, 'the path');
  const tried = await page.textContent('.tried');
  assert.match(tried, /daily/);
  assert.match(tried, /silenced by night-watch: the power of rack 4/);
  assert.match(tried, /joins a group.*again after 4 h.*cluster="east"/s);
  await page.fill('#labels', 'severity!=warning');
  await until(async () => (await page.textContent('#tried')).includes('write what it is'), 'the error');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'labels', 'the focus stays');
  assert.deepEqual(wrong, []);
  await close();
});

test('without scripts a phone follows the route of a past incident, and of labels', async () => {
  const { page, wrong, close } = await open(browser, '/incident/6', { scripts: false, size: sizes.phone });
  await page.click('text=Who is told of it');
  assert.ok(page.url().startsWith(`${URL}/notify?incident=6`));
  assert.match(await page.textContent('.tried'), /ops/);
  await page.fill('#labels', 'team=web');
  await page.click('#routes button');
  assert.match(await page.textContent('.tried'), /begins a group, told after 30 s.*silent now: within working days, until 2026-11-28/s);
  assert.deepEqual(wrong, []);
  await close();
});

test('chains show who is on which step, digests what they wait for', async () => {
  const { page, wrong, close } = await open(browser, '/notify');
  assert.match(await page.textContent('#escalations'), /nights.*at once ops.*after 30 min night.*step 2 is due in \d+ min/s);
  assert.match(await page.textContent('#digests'), /daily.*61 alerts.*told in (24 h|23 h)/s);
  await page.keyboard.press('n');
  await page.waitForURL(`${URL}/`);
  await page.keyboard.press('m');
  await page.waitForURL(`${URL}/notify`);
  assert.deepEqual(wrong, []);
  await close();
});
