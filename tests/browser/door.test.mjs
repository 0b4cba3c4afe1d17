// Who comes in: the login, a link from a chat, and what a page of another site can do (nothing).
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { launch, URL } from './browser.mjs';

const CLOSED = process.env.DARUMA_CLOSED_URL, SECRET = process.env.DARUMA_SECRET;
let browser, elsewhere, foreign;
before(async () => {
  browser = await launch();
  // `localhost` and `127.0.0.1` are two sites to a browser.
  elsewhere = createServer((request, answer) => {
    answer.setHeader('content-type', 'text/html');
    const to = request.url.startsWith('/closed') ? CLOSED : URL;
    answer.end(`<!doctype html><a id=link href="${to}/incident/7">the incident</a>
      <form id=act method=post action="${to}/act"><input name=do value=stop><input name=on value=true><input name=csrf value=""></form>
      <form id=plain method=post enctype=text/plain action="${to}/api/command"><input name='{"do":"stop","on":true,"comment":"' value='"}'></form>
      <img src="${to}/ping/backup"><iframe src="${to}/"></iframe>`);
  });
  await new Promise((done) => elsewhere.listen(0, '127.0.0.1', done));
  foreign = `http://localhost:${elsewhere.address().port}`;
});
after(async () => { await browser.close(); elsewhere.close(); });

test('a token opens the door, and a link from elsewhere still leads to the page', async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${CLOSED}/incident/7`);
  assert.ok(!(await page.content()).includes('web does not answer'));
  await page.fill('input[name=token]', 'wrong');
  await page.click('button');
  assert.ok((await page.textContent('main')).includes('not a token'));
  await page.fill('input[name=token]', SECRET);
  await page.click('button');
  await page.waitForURL(`${CLOSED}/incident/7`);
  assert.ok((await page.textContent('h1')).includes('web does not answer'));
  await page.waitForFunction(() => document.querySelector('#live').textContent === 'live');
  // The chat: the cookie is kept back at first, and the page comes all the same.
  await page.goto(`${foreign}/closed`);
  await page.click('#link');
  await page.waitForFunction(() => document.querySelector('h1')?.textContent.includes('web does not answer'));
  await page.click('text=Log out');
  await page.waitForURL(`${CLOSED}/login`);
  await page.goto(`${CLOSED}/`);
  assert.ok(await page.locator('input[name=token]').isVisible());
  await context.close();
});

test('a page of another site stops nothing, reads nothing and frames nothing', async () => {
  for (const form of ['#act', '#plain']) {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${foreign}/`);
    assert.ok(!(await page.frames()[1].content()).includes('incidents open'), 'it is not framed');
    const [answer] = await Promise.all([
      page.waitForResponse((r) => r.request().method() === 'POST'),
      page.waitForURL((url) => url.href.startsWith(URL)),
      page.evaluate((form) => { setTimeout(() => document.querySelector(form).submit()); }, form),
    ]);
    assert.equal(answer.status(), 403, form);
    const read = await page.goto(`${foreign}/`).then(() => page.evaluate((url) => fetch(`${url}/api/view`).then(() => 'read', () => 'refused'), URL));
    assert.equal(read, 'refused');
    assert.equal((await (await fetch(`${URL}/api/view`)).json()).stopped, null);
    await context.close();
  }
});
