// One Chromium for a test file, and pages that remember everything that went wrong in them.
import { chromium } from 'playwright-core';
import assert from 'node:assert/strict';

export const URL = process.env.DARUMA_URL;
if (!URL) throw new Error('DARUMA_URL names no server; use tests/browser/run');

export const launch = () => chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run'],
});

export const sizes = { desk: { width: 1280, height: 900 }, phone: { width: 360, height: 740 } };

/// Opens a page. `wrong` collects console errors, policy violations, exceptions, dialogs, foreign requests.
export async function open(browser, path, { scheme = 'light', size = sizes.desk, scripts = true } = {}) {
  const context = await browser.newContext({ colorScheme: scheme, viewport: size, javaScriptEnabled: scripts, reducedMotion: 'reduce' });
  const page = await context.newPage();
  const wrong = [];
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) wrong.push(message.text()); });
  page.on('pageerror', (error) => wrong.push(`exception: ${error.message}`));
  page.on('dialog', (dialog) => { wrong.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on('request', (request) => { if (!request.url().startsWith(URL)) wrong.push(`asks elsewhere: ${request.url()}`); });
  const answer = await page.goto(URL + path);
  if (scripts) await page.waitForFunction(() => document.querySelector('#live')?.textContent === 'live');
  return { page, wrong, answer, close: () => context.close() };
}

/// Waits until `look` returns something true; at most 15 s, which only says that it happens at all.
export async function until(look, what) {
  for (let i = 0; i < 150; i++) {
    const seen = await look();
    if (seen) return seen;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.fail(`never: ${what}`);
}

export const pages = { now: '/', incident: '/incident/7', escalated: '/incident/6', hostile: '/incident/9', sources: '/sources',
  notify: '/notify?labels=' + encodeURIComponent('cluster=east\nseverity=warning'), told: '/notify?incident=6',
  silences: '/silences?matchers=' + encodeURIComponent('cluster="east"\nhost=~"rack4-."'),
  explore: '/explore?query=' + encodeURIComponent('rate(node_cpu_seconds_total[2m]) or quantile(2, http_inflight)') + '&range=30m', examples: '/explore',
  fault: '/explore?query=' + encodeURIComponent('sum by (cpu) (\n  rat(node_cpu_seconds_total[5m])\n)') };
