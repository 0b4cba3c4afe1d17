// What can be seen: both themes, desk and phone, contrast, hostile text.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { launch, open, pages, sizes } from './browser.mjs';

let browser;
before(async () => { browser = await launch(); mkdirSync('shots', { recursive: true }); });
after(() => browser.close());

/// Every text of the page whose contrast is below AA, with its colours. Backgrounds are those of the
/// nearest ancestor that has one.
const faint = () => {
  // The colour as it is drawn, whatever notation it is written in.
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const light = ([r, g, b]) => [r, g, b].map((c) => { const v = c / 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; })
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (el) => { for (; el; el = el.parentElement) { const c = rgb(getComputedStyle(el).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
  const found = [];
  let seen = 0;
  for (const el of document.querySelectorAll('body *')) {
    const svg = el.namespaceURI.endsWith('svg');
    if (![...el.childNodes].some((n) => n.nodeType === 3 && n.nodeValue.trim()) || !el.checkVisibility()) continue;
    if (svg && el.tagName === 'title') continue;
    if (el.closest('button[disabled]')) continue;
    const style = getComputedStyle(el);
    const [a, b] = [light(rgb(svg ? style.fill : style.color)), light(behind(el))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05), size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    seen += 1;
    if (ratio < least) found.push(`${ratio.toFixed(2)} ${el.tagName}.${el.getAttribute('class')} "${el.textContent.trim().slice(0, 30)}"`);
  }
  return { seen, found };
};

for (const scheme of ['light', 'dark']) {
  for (const [device, size] of Object.entries(sizes)) {
    for (const [name, path] of Object.entries(pages)) {
      test(`${name} in ${scheme} on a ${device}: fits, reads, and nothing goes wrong`, async () => {
        const { page, wrong, close } = await open(browser, path, { scheme, size });
        // Everything that can be opened is, so that nothing hides from the checks.
        await page.evaluate(() => { for (const d of document.querySelectorAll('details:not(.act)')) d.open = true; });
        await page.waitForTimeout(600);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        assert.ok(wide <= 0, `scrolls sideways by ${wide} px`);
        const { seen, found } = await page.evaluate(faint);
        assert.ok(seen > 15, `only ${seen} texts were looked at`);
        assert.deepEqual([...new Set(found)], []);
        await page.screenshot({ path: `shots/${name}-${scheme}-${device}.png`, fullPage: true });
        assert.deepEqual(wrong, []);
        await close();
      });
    }
  }
}

test('every form reads well when it is open, in both themes', async () => {
  for (const scheme of ['light', 'dark']) {
    for (const path of ['/', '/incident/7', '/silences', '/notify']) {
      const { page, wrong, close } = await open(browser, path, { scheme, size: sizes.phone });
      const count = await page.locator('.act').count();
      for (let i = 0; i < count; i++) {
        await page.locator('.act > summary').nth(i).click();
        const { found } = await page.evaluate(faint);
        assert.deepEqual([...new Set(found)], [], `${path} form ${i}`);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        assert.ok(wide <= 0, `${path} form ${i} scrolls sideways by ${wide} px`);
        await page.keyboard.press('Escape');
      }
      assert.deepEqual(wrong, []);
      await close();
    }
  }
});

test('the switch overrides what the system prefers, and lasts', async () => {
  const { page, wrong, close } = await open(browser, '/', { scheme: 'light' });
  const colour = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const before = await colour();
  await page.click('#theme');
  const dark = await colour();
  assert.notEqual(dark, before);
  await page.goto(page.url().replace(/\/$/, '/sources'));
  assert.equal(await colour(), dark);
  assert.deepEqual(wrong, []);
  await close();
});

test('hostile text is text', async () => {
  for (const path of ['/', '/incident/9', '/sources', '/silences', '/notify']) {
    const { page, wrong, close } = await open(browser, path);
    await page.waitForTimeout(800);
    assert.ok((await page.textContent('main')).includes('<script>alert(1)</script><img src=x onerror=alert(2)>'), path);
    const made = await page.evaluate(() => ({
      images: document.querySelectorAll('main img').length,
      scripts: [...document.scripts].filter((s) => !s.src.startsWith(location.origin)).length,
      handlers: [...document.querySelectorAll('*')].filter((el) => [...el.attributes].some((a) => a.name.startsWith('on'))).length,
    }));
    assert.deepEqual(made, { images: 0, scripts: 0, handlers: 0 }, path);
    assert.deepEqual(wrong, [], path);
    await close();
  }
});

test('a level is told by its shape as well as by its hue', async () => {
  const { page, close } = await open(browser, '/');
  const shapes = await page.evaluate(() => ['critical', 'error', 'warning', 'info', 'unknown', 'healed'].map((kind) => {
    const use = document.querySelector(`main svg.mark.${kind} use`);
    return [kind, use && use.getAttribute('href'), use && document.querySelector(use.getAttribute('href')).innerHTML];
  }));
  assert.equal(new Set(shapes.map(([, , shape]) => shape)).size, 6, JSON.stringify(shapes));
  for (const [kind, href] of shapes) assert.equal(href, `#m-${kind}`);
  await close();
});

test('evidence is drawn beside the story, with its marks, and without scripts, too', async () => {
  const { page, wrong, close } = await open(browser, '/incident/7');
  await page.waitForSelector('.plot canvas');
  const legend = await page.textContent('.u-legend');
  assert.match(legend, /http_inflight.*last [\d.]+/, 'what is not pointed at is not called missing');
  assert.deepEqual(wrong, []);
  await close();
  const plain = await open(browser, '/incident/7', { scripts: false });
  assert.ok(await plain.page.locator('svg.evidence path.line').count() >= 1);
  assert.ok(await plain.page.locator('svg.evidence .moment').count() >= 4);
  assert.equal(await plain.page.locator('svg.evidence line.threshold').count(), 1);
  await plain.close();
});
