// What the pages do beyond what HTML does by itself: count time on, learn what is new, keys, theme.
// Everything works without this file; nothing here makes markup from text.
'use strict';
(() => {
  const root = document.documentElement;
  const stored = { get: () => { try { return localStorage.getItem('theme'); } catch { return null; } },
    set: (v) => { try { localStorage.setItem('theme', v); } catch { /* Private windows keep nothing. */ } } };
  const theme = stored.get();
  if (theme === 'light' || theme === 'dark') root.dataset.theme = theme;

  const $ = (what, from = document) => from.querySelector(what);
  const all = (what, from = document) => [...from.querySelectorAll(what)];

  // The server's time counts: the clocks of phones are wrong more often.
  let ahead = 0;
  const learn = () => { const at = Number(($('#main[data-now]') || document.body).dataset.now); if (at) ahead = at - Date.now(); };
  const now = () => Date.now() + ahead;

  // The words of `page/words.rs`.
  const two = (n) => String(n).padStart(2, '0');
  const long = (ms) => {
    const s = Math.max(0, Math.trunc(ms / 1000)), m = Math.trunc(s / 60), h = Math.trunc(s / 3600);
    if (s < 60) return `${s} s`;
    if (m < 10 && s % 60) return `${m} min ${s % 60} s`;
    if (h < 1) return `${m} min`;
    if (h < 10 && m % 60) return `${h} h ${m % 60} min`;
    return h < 48 ? `${h} h` : `${Math.trunc(s / 86400)} d`;
  };
  const said = {
    when: (at, t) => at > t ? `in ${long(at - t)}` : `${long(t - at)} ago`,
    since: (at, t) => long(t - at),
    count: (at, t) => {
      const s = Math.max(0, Math.trunc((at - t) / 1000)), m = Math.trunc(s / 60);
      return m >= 60 ? `${Math.trunc(m / 60)}:${two(m % 60)}:${two(s % 60)}` : `${m}:${two(s % 60)}`;
    },
    clock: (_, t) => new Date(t).toISOString().slice(11, 19),
  };
  const tick = () => {
    const t = now();
    for (const el of all('time[data-rel]')) {
      const at = Date.parse(el.dateTime), say = said[el.dataset.rel];
      if (!say || (Number.isNaN(at) && el.dataset.rel !== 'clock')) continue;
      const text = say(at, t);
      if (el.textContent !== text) el.textContent = text;
    }
    for (const el of all('progress[data-until]')) {
      const from = Number(el.dataset.from), until = Number(el.dataset.until);
      if (until > from) el.value = Math.min(1, Math.max(0, (t - from) / (until - from)));
    }
  };

  // What was not there before is marked until somebody has been here to see it.
  const known = new Set();
  const mark = (first) => {
    for (const el of all('[data-key]')) {
      if (!known.has(el.dataset.key)) { known.add(el.dataset.key); if (!first) el.dataset.new = ''; }
    }
  };
  let seeing = 0;
  const see = () => {
    if (seeing || document.hidden || !$('[data-new]')) return;
    seeing = setTimeout(() => {
      seeing = 0;
      for (const el of all('[data-new]')) {
        const box = el.getBoundingClientRect();
        if (box.bottom > 0 && box.top < innerHeight) delete el.dataset.new;
      }
    }, 2000);
  };

  // What is new is fetched as the page that anybody would load, and laid over the one that is open:
  // what a person opened, typed or focused stays.
  let busy = false, again = false, last = 0;
  // A page that is on its way elsewhere must not call itself back.
  let leaving = false;
  addEventListener('beforeunload', () => { leaving = true; setTimeout(() => { leaving = false; }, 10000); });
  const refresh = async () => {
    if (document.hidden || busy || leaving || !window.htmx || !$('#main[data-now]')) { again = true; return; }
    busy = true; again = false;
    try {
      await window.htmx.ajax('GET', location.pathname + location.search, { target: '#main', select: '#main', swap: 'outerMorph', source: '#main' });
      last = Date.now();
    } catch { /* The live mark tells that the connection is gone. */ }
    busy = false;
    learn(); mark(false); tick();
    document.dispatchEvent(new CustomEvent('daruma:refreshed'));
    if (again) setTimeout(refresh, 250);
  };

  // What is asked in a field stands in the address, and the page answers at once; without scripts its form
  // does the same. Such a field may name a part of the address that it takes the place of.
  let asking = 0;
  document.addEventListener('input', (e) => {
    if (!e.target.matches || !e.target.matches('[data-asks]')) return;
    clearTimeout(asking);
    asking = setTimeout(() => {
      const to = new URL(location.href);
      for (const field of all('[data-asks]')) {
        if (field.value) { to.searchParams.set(field.name, field.value); to.searchParams.delete(field.dataset.asks); } else to.searchParams.delete(field.name);
      }
      to.searchParams.delete('done');
      to.hash = '';
      history.replaceState(history.state, '', to);
      refresh();
    }, 300);
  });

  const live = (state, text) => {
    const el = $('#live');
    if (!el || el.textContent === text) return;
    el.className = `live ${state}`; el.textContent = text;
  };
  const listen = () => {
    if (!window.EventSource || !$('#live')) return;
    const stream = new EventSource('/events');
    stream.addEventListener('open', () => live('on', 'live'));
    stream.addEventListener('changed', refresh);
    stream.addEventListener('error', () => {
      live('off', 'reconnecting');
      if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
    });
    addEventListener('pagehide', () => stream.close(), { once: true });
    addEventListener('pageshow', (e) => { if (e.persisted) listen(); }, { once: true });
  };

  const swapTheme = () => {
    const dark = (root.dataset.theme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';
    root.dataset.theme = dark ? 'light' : 'dark';
    stored.set(root.dataset.theme);
    document.dispatchEvent(new CustomEvent('daruma:theme'));
  };
  const go = (step) => {
    const links = all('.row a.title');
    if (!links.length) return;
    const at = links.indexOf(document.activeElement);
    links[at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + step))].focus();
  };
  const ack = () => {
    const here = document.activeElement && document.activeElement.closest('.row');
    const act = $('.act[id$="-ack"]', here || document);
    if (!act) return;
    act.open = true;
    $('button.go', act).focus();
  };
  const keys = {
    n: () => { location.href = '/'; }, q: () => { location.href = '/silences'; }, m: () => { location.href = '/notify'; }, e: () => { location.href = '/explore'; }, s: () => { location.href = '/sources'; },
    j: () => go(1), k: () => go(-1), a: ack, t: swapTheme,
    '?': () => { const d = $('#keys'); if (d && !d.open) d.showModal(); },
  };
  document.addEventListener('keydown', (e) => {
    see();
    if (e.key === 'Escape') { for (const d of all('.act[open]')) { d.open = false; if (d.contains(document.activeElement)) $('summary', d).focus(); } return; }
    if (e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName) || $('dialog[open]')) return;
    const act = keys[e.key];
    if (act) { e.preventDefault(); act(); }
  });
  for (const what of ['pointermove', 'pointerdown', 'scroll']) addEventListener(what, see, { passive: true });
  document.addEventListener('visibilitychange', () => { if (!document.hidden && (again || Date.now() - last > 5000)) refresh(); });

  // One form at a time is open; a click elsewhere closes it.
  document.addEventListener('click', (e) => { for (const d of all('.act[open]')) if (!d.contains(e.target)) d.open = false; });
  // The button that does it must not open behind the bar at the edge of a phone.
  document.addEventListener('toggle', (e) => {
    if (e.target.matches('.act[open]')) $('button.go', e.target).scrollIntoView({ block: 'nearest' });
  }, true);
  document.addEventListener('submit', (e) => {
    const button = $('button.go', e.target);
    if (button) setTimeout(() => { button.disabled = true; });
  });
  document.addEventListener('htmx:before:response', (e) => {
    const { ctx } = e.detail;
    // Only the page itself is laid over the page: not a login, not an error.
    if (ctx.target && ctx.target.id === 'main' && ctx.response.status !== 200) {
      e.preventDefault();
      if (ctx.response.status === 401 && !leaving) location.reload();
    }
  });
  const settled = (e) => {
    const form = e.target.closest && e.target.closest('.act form');
    if (!form) return;
    const button = $('button.go', form);
    if (button) button.disabled = false;
    const { response } = e.detail.ctx;
    const place = document.getElementById((form.getAttribute('hx-target') || '').slice(1));
    if (response && response.status === 200) { form.closest('details').open = false; refresh(); }
    if (!response && place) place.textContent = 'Nothing is known of it: daruma was not reached. Try again.';
  };
  document.addEventListener('htmx:finally:request', settled);

  document.addEventListener('DOMContentLoaded', () => {
    for (const [id, act] of [['theme', swapTheme], ['help', keys['?']]]) {
      const button = document.getElementById(id);
      if (button) { button.hidden = false; button.addEventListener('click', act); }
    }
    learn(); mark(true); tick(); listen();
    setInterval(tick, 1000);
    setInterval(refresh, 10000);
  });
})();
