// Draws an incident's evidence with uPlot over the picture that the server drew: the same series, with a
// shared cursor, and a range that is dragged and stands in the address.
'use strict';
(() => {
  const plots = new Map();
  const sync = () => uPlot.sync('incident');
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const range = () => {
    const q = new URLSearchParams(location.search), from = Number(q.get('from')), to = Number(q.get('to'));
    return from > 0 && to > from ? { from, to } : null;
  };
  const setRange = (r) => {
    const q = new URLSearchParams(location.search);
    for (const k of ['from', 'to']) { if (r) q.set(k, r[k].toFixed(3)); else q.delete(k); }
    const text = q.toString();
    history.replaceState(history.state, '', location.pathname + (text ? `?${text}` : ''));
  };
  const moments = () => [...document.querySelectorAll('.entry[data-at]')].map((el) => ({ at: Number(el.dataset.at) / 1000, shape: el.dataset.shape }));
  const shades = { acted: 'acting', healed: 'healed', resolved: 'healed', escalated: 'error', failed: 'error', unknown: 'unknown' };
  const tips = { detected: (c, x, y, r) => { c.beginPath(); c.arc(x, y, r * .8, 0, 7); c.stroke(); },
    confirmed: (c, x, y, r) => { c.beginPath(); c.arc(x, y, r * .9, 0, 7); c.fill(); },
    decided: (c, x, y, r) => { c.beginPath(); c.moveTo(x, y - r); c.lineTo(x + r, y); c.lineTo(x, y + r); c.lineTo(x - r, y); c.closePath(); c.stroke(); },
    acted: (c, x, y, r) => { c.beginPath(); c.moveTo(x - r * .7, y - r); c.lineTo(x + r, y); c.lineTo(x - r * .7, y + r); c.closePath(); c.fill(); },
    healed: (c, x, y, r) => { c.beginPath(); c.moveTo(x - r, y); c.lineTo(x - r * .3, y + r * .7); c.lineTo(x + r, y - r * .8); c.stroke(); },
    failed: (c, x, y, r) => { c.beginPath(); c.moveTo(x - r * .7, y - r * .7); c.lineTo(x + r * .7, y + r * .7); c.moveTo(x + r * .7, y - r * .7); c.lineTo(x - r * .7, y + r * .7); c.stroke(); },
    told: (c, x, y, r) => { c.strokeRect(x - r, y - r * .7, r * 2, r * 1.4); c.beginPath(); c.moveTo(x - r, y - r * .7); c.lineTo(x, y + r * .1); c.lineTo(x + r, y - r * .7); c.stroke(); },
    escalated: (c, x, y, r) => { c.fillRect(x - r * .2, y - r, r * .4, r * 1.3); c.fillRect(x - r * .2, y + r * .6, r * .4, r * .4); } };
  const marks = (u, threshold) => {
    const { ctx: c, bbox: b } = u, px = devicePixelRatio || 1, r = 5 * px;
    c.save();
    c.lineWidth = px * 1.4;
    let lastX = -1e9;
    for (const { at, shape } of moments()) {
      const x = u.valToPos(at, 'x', true);
      if (x < b.left || x > b.left + b.width) continue;
      c.strokeStyle = c.fillStyle = colour(shades[shape] || 'soft');
      c.globalAlpha = .55; c.setLineDash([3 * px, 4 * px]); c.lineWidth = px;
      c.beginPath(); c.moveTo(x, b.top); c.lineTo(x, b.top + b.height); c.stroke();
      c.globalAlpha = 1; c.setLineDash([]); c.lineWidth = px * 1.6;
      // Marks that would cover each other keep their lines; the timeline has them all.
      if (x - lastX >= r * 2.2) { (tips[shape] || tips.detected)(c, x, b.top - r * 1.7, r); lastX = x; }
    }
    if (Number.isFinite(threshold)) {
      const y = u.valToPos(threshold, 'y', true);
      if (y >= b.top && y <= b.top + b.height) {
        c.strokeStyle = c.fillStyle = colour('error'); c.lineWidth = px * 1.2; c.setLineDash([6 * px, 4 * px]);
        c.beginPath(); c.moveTo(b.left, y); c.lineTo(b.left + b.width, y); c.stroke();
        c.font = `${11 * px}px system-ui, sans-serif`; c.textAlign = 'right'; c.textBaseline = 'bottom';
        c.fillText('threshold', b.left + b.width - 4 * px, y - 3 * px);
      }
    }
    c.restore();
  };
  const short = (v) => v == null ? 'no data' : Math.abs(v) >= 1e4 || (v && Math.abs(v) < 1e-3) ? v.toPrecision(3) : String(Math.round(v * 1000) / 1000);

  const fetched = async (el) => {
    const zoom = range();
    const to = el.dataset.live === 'true' ? Math.max(Number(el.dataset.to), Number(document.querySelector('#main').dataset.now)) : Number(el.dataset.to);
    const q = new URLSearchParams({ query: el.dataset.query, from: zoom ? zoom.from : Number(el.dataset.from) / 1000, to: zoom ? zoom.to : to / 1000 });
    if (el.dataset.like) q.set('like', el.dataset.like);
    const answer = await fetch(`/api/series?${q}`);
    if (!answer.ok) return null;
    return answer.json();
  };
  const draw = async (el) => {
    const data = await fetched(el).catch(() => null);
    // Without data the server's own picture stays, which says so.
    if (!data || !data.lines.some((line) => line.values.some((v) => v != null))) return;
    const threshold = el.dataset.threshold === undefined ? NaN : Number(el.dataset.threshold);
    const rows = [data.times, ...data.lines.map((line) => line.values)];
    const old = plots.get(el.id);
    if (old && old.el === el && old.lines === data.lines.length) { old.u.setData(rows); return; }
    if (old) old.u.destroy();
    el.replaceChildren();
    el.setAttribute('hx-morph-skip', '');
    el.dataset.drawn = '';
    const axis = { stroke: colour('soft'), grid: { stroke: colour('line'), width: 1 }, ticks: { stroke: colour('line') }, font: '11px system-ui, sans-serif' };
    const u = new uPlot({
      width: el.clientWidth, height: 230, padding: [22, 8, 0, 0],
      tzDate: (ts) => uPlot.tzDate(new Date(ts * 1e3), 'Etc/UTC'),
      scales: { y: { range: (_, low, high) => {
        const t = Number.isFinite(threshold) ? [threshold] : [];
        const a = Math.min(low ?? 0, ...t), b = Math.max(high ?? 1, ...t), room = (b - a || Math.abs(b) || 1) * .08;
        return [a >= 0 ? Math.max(0, a - room) : a - room, b + room];
      } } },
      axes: [{ ...axis, space: 76, values: (_, splits, __, ___, step) => splits.map((ts) => {
        const text = new Date(ts * 1e3).toISOString();
        return step >= 86400 ? text.slice(5, 10) : step >= 60 ? text.slice(11, 16) : text.slice(11, 19);
      }) }, { ...axis, size: 52 }],
      cursor: { sync: { key: 'incident' }, drag: { x: true, y: false } },
      series: [{ label: 'UTC', value: (_, ts) => ts == null ? '--' : new Date(ts * 1e3).toISOString().slice(11, 23) },
        ...data.lines.map((line, i) => ({ label: line.name, stroke: colour(`l${i % 4}`), width: 1.8, spanGaps: false, points: { size: 4 }, value: (u, v, row, at) => at == null ? `last ${short(u.data[row].findLast((x) => x != null))}` : short(v) }))],
      hooks: { draw: [(u) => marks(u, threshold)], setSelect: [(u) => {
        if (u.select.width < 4) return;
        setRange({ from: u.posToVal(u.select.left, 'x'), to: u.posToVal(u.select.left + u.select.width, 'x') });
        again();
      }] },
    }, rows, el);
    el.addEventListener('dblclick', () => { setRange(null); again(); });
    sync().sub(u);
    plots.set(el.id, { u, el, lines: data.lines.length });
  };
  const again = () => { for (const el of document.querySelectorAll('.plot')) draw(el); };
  const anew = () => {
    for (const { u, el } of plots.values()) { sync().unsub(u); u.destroy(); el.replaceChildren(); }
    plots.clear(); again();
  };
  let timer = 0;
  addEventListener('resize', () => { clearTimeout(timer); timer = setTimeout(() => { for (const { u, el } of plots.values()) u.setSize({ width: el.clientWidth, height: 230 }); }, 100); });
  document.addEventListener('daruma:theme', anew);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', anew);
  let last = 0;
  document.addEventListener('daruma:refreshed', () => {
    if (Date.now() - last < 3000 || range()) return;
    last = Date.now();
    for (const el of document.querySelectorAll('.plot[data-live="true"]')) draw(el);
    for (const { u } of plots.values()) u.redraw(false);
  });
  again();
})();
