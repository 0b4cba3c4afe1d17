// Explore: completion in the query box, and the course drawn with uPlot over the picture that the server
// drew. The page works without this file; nothing here makes markup from text.
'use strict';
(() => {
  const box = document.getElementById('query'), list = document.getElementById('offers');
  if (!box || !list) return;

  // Completion. What is known is asked for once: metrics, then labels and values as they are needed.
  const words = JSON.parse(box.dataset.words || '{"calls":[],"words":[]}');
  const OFFERS_MAX = 60, asked = new Map();
  const ask = (path, params = []) => {
    const key = `${path}?${new URLSearchParams(params)}`;
    if (!asked.has(key)) {
      asked.set(key, fetch(key).then((answer) => (answer.ok ? answer.json() : { data: [] })).then((json) => json.data)
        .catch(() => { asked.delete(key); return []; }));
    }
    return asked.get(key);
  };
  const plain = (name) => /^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(name);
  const quoted = (text) => `"${text.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n')}"`;

  // Where the caret stands: in a text, between braces, in a list of labels, or in the open.
  const place = () => {
    const text = box.value.slice(0, box.selectionStart);
    let quote = '', from = 0, depth = [];
    for (let i = 0; i < text.length; i++) {
      const c = text[i];
      if (quote) { if (c === '\\' && quote !== '`') i++; else if (c === quote) quote = ''; continue; }
      if (c === '"' || c === "'" || c === '`') { quote = c; from = i + 1; } else if (c === '{' || c === '(' || c === '[') depth.push([c, i]);
      else if (c === '}' || c === ')' || c === ']') depth.pop();
    }
    const inner = depth[depth.length - 1];
    const brace = [...depth].reverse().find(([c]) => c === '{');
    const metric = brace ? (/([a-zA-Z_:][a-zA-Z0-9_:]*)\s*$/.exec(text.slice(0, brace[1])) || [])[1] : undefined;
    if (quote) {
      const label = brace && /([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)\s*["'`]$/.exec(text.slice(0, from));
      return label ? { kind: 'value', label: label[1], metric, from, typed: text.slice(from) } : null;
    }
    const typed = (/[a-zA-Z_:][a-zA-Z0-9_:]*$/.exec(text) || [''])[0];
    const at = text.length - typed.length;
    if (/[0-9.]$/.test(text.slice(0, at))) return null;
    if (inner && inner[0] === '[') return null;
    if (inner && inner[0] === '{') return /[{,]\s*$/.test(text.slice(0, at)) ? { kind: 'label', metric, from: at, typed } : null;
    if (inner && inner[0] === '(' && /\b(by|without|on|ignoring|group_left|group_right)\s*$/i.test(text.slice(0, inner[1]))) return { kind: 'label', from: at, typed };
    return { kind: 'open', from: at, typed };
  };
  const candidates = async (where) => {
    const match = where.metric ? [['match[]', where.metric]] : [];
    if (where.kind === 'value') return (await ask(`/api/v1/label/${encodeURIComponent(where.label)}/values`, match)).map((text) => ({ text, put: quoted(text).slice(1, -1), kind: 'value' }));
    if (where.kind === 'label') return (await ask('/api/v1/labels', match)).filter((name) => name !== '__name__').map((text) => ({ text, put: plain(text) ? text : quoted(text), kind: 'label' }));
    const [names, known] = await Promise.all([ask('/api/v1/label/__name__/values'), ask('/api/v1/metadata')]);
    const about = (name) => { const said = known && known[name] && known[name][0]; return said ? `${said.type}${said.help ? ` · ${said.help}` : ''}` : 'metric'; };
    return [...words.calls.map((text) => ({ text, put: `${text}(`, kind: 'function' })), ...words.words.map((text) => ({ text, put: text, kind: 'word' })),
      ...names.map((text) => ({ text, put: plain(text) ? text : `{${quoted(text)}}`, kind: about(text) }))];
  };
  // Better the nearer the typed text stands to the beginning; letters in order are enough.
  const rank = (text, typed) => {
    const a = text.toLowerCase(), b = typed.toLowerCase(), at = a.indexOf(b);
    if (at >= 0) return at === 0 ? 0 : 1 + at / 1000;
    let i = 0;
    for (const c of a) if (c === b[i]) i++;
    return b.length > 2 && i === b.length ? 3 : Infinity;
  };

  let offers = [], chosen = -1, round = 0, where = null;
  const close = () => { round++; offers = []; chosen = -1; list.hidden = true; list.replaceChildren(); box.setAttribute('aria-expanded', 'false'); box.removeAttribute('aria-activedescendant'); };
  const choose = (at) => {
    chosen = at;
    [...list.children].forEach((el, i) => el.setAttribute('aria-selected', String(i === at)));
    if (at >= 0) { list.children[at].scrollIntoView({ block: 'nearest' }); box.setAttribute('aria-activedescendant', `offer-${at}`); } else box.removeAttribute('aria-activedescendant');
  };
  const open = async (demanded) => {
    const mine = ++round;
    where = place();
    if (!where || (!demanded && where.kind === 'open' && where.typed.length < 2)) return close();
    const all = await candidates(where);
    if (mine !== round) return undefined;
    offers = all.map((offer) => ({ ...offer, rank: rank(offer.text, where.typed) })).filter((offer) => offer.rank < Infinity)
      .sort((a, b) => a.rank - b.rank || a.text.length - b.text.length || (a.text < b.text ? -1 : 1)).slice(0, OFFERS_MAX);
    if (!offers.length || (offers.length === 1 && offers[0].text === where.typed)) return close();
    list.replaceChildren(...offers.map((offer, i) => {
      const el = document.createElement('li'), kind = document.createElement('small'), text = document.createElement('bdi');
      el.id = `offer-${i}`; el.setAttribute('role', 'option');
      text.textContent = offer.text; kind.textContent = offer.kind.slice(0, 120);
      el.append(text, kind);
      el.addEventListener('pointerdown', (e) => { e.preventDefault(); take(i); });
      return el;
    }));
    list.hidden = false; box.setAttribute('aria-expanded', 'true');
    return choose(demanded || where.typed || where.kind === 'value' ? 0 : -1);
  };
  const take = (at) => {
    const offer = offers[at];
    if (!offer || !where) return;
    const end = box.selectionStart, before = box.value.slice(0, where.from);
    let { put } = offer;
    if (put.endsWith('(') && box.value[end] === '(') put = put.slice(0, -1);
    box.value = before + put + box.value.slice(end);
    box.selectionStart = box.selectionEnd = where.from + put.length;
    close(); grow();
  };
  // Long lines wrap: where the style does not see to it, the box grows here.
  const grow = () => { box.rows = Math.min(12, Math.max(1, box.value.split('\n').length)); while (box.rows < 12 && box.scrollHeight > box.clientHeight + 2) box.rows += 1; };
  for (const [name, value] of [['role', 'combobox'], ['aria-autocomplete', 'list'], ['aria-controls', 'offers'], ['aria-expanded', 'false']]) box.setAttribute(name, value);
  box.addEventListener('input', () => { grow(); open(false); });
  grow();
  box.addEventListener('blur', close);
  box.addEventListener('click', close);
  box.addEventListener('keydown', (e) => {
    if (e.isComposing) return;
    const here = !list.hidden;
    if (e.key === ' ' && e.ctrlKey) { e.preventDefault(); open(true); }
    else if (here && e.key === 'ArrowDown') { e.preventDefault(); choose((chosen + 1) % offers.length); }
    else if (here && e.key === 'ArrowUp') { e.preventDefault(); choose((chosen + offers.length - 1) % offers.length); }
    else if (here && e.key === 'Escape') { e.preventDefault(); e.stopPropagation(); close(); }
    else if (here && chosen >= 0 && (e.key === 'Tab' || (e.key === 'Enter' && offers[chosen].text !== where.typed))) { e.preventDefault(); take(chosen); }
    else if (e.key === 'Enter' && !e.shiftKey) { e.preventDefault(); close(); box.form.requestSubmit(); }
  });
  // Empty fields say nothing: they need not stand in the address.
  box.form.addEventListener('submit', () => {
    for (const el of box.form.elements) if (el.name && el.name !== 'query' && !el.value) { el.disabled = true; setTimeout(() => { el.disabled = false; }); }
  });
  addEventListener('pageshow', () => { for (const el of box.form.elements) el.disabled = false; });

  // The course.
  const el = document.getElementById('course');
  if (!el) return;
  const LINES_MAX = 40;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const named = (metric) => {
    const labels = Object.entries(metric).filter(([name]) => name !== '__name__').map(([name, value]) => `${name}=${quoted(value)}`);
    return `${metric.__name__ || ''}${labels.length || !metric.__name__ ? `{${labels.join(', ')}}` : ''}`;
  };
  const number = (v) => (v == null ? '–' : Math.abs(v) >= 1e6 || (v && Math.abs(v) < 1e-3) ? v.toPrecision(4) : String(Math.round(v * 1e4) / 1e4));
  const from = Number(el.dataset.from), to = Number(el.dataset.to), step = Number(el.dataset.step);
  let series = null, plot = null;
  const rows = () => {
    const count = Math.floor((to - from) / step + 1e-6) + 1, times = Array.from({ length: count }, (_, i) => from + i * step);
    const lines = series.slice(0, LINES_MAX).map((one) => {
      const values = new Array(count).fill(null);
      for (const [at, text] of one.values || []) {
        const v = text === '+Inf' || text === '-Inf' ? NaN : Number(text), i = Math.round((at - from) / step);
        // A gap stays a gap; what is no number has no place on an axis.
        if (Number.isFinite(v) && i >= 0 && i < count) values[i] = v;
      }
      return values;
    });
    return [times, ...lines];
  };
  const draw = () => {
    if (!series || !series.length) return;
    const data = rows();
    if (!data.slice(1).some((line) => line.some((v) => v != null))) return;
    if (plot) plot.destroy();
    el.replaceChildren();
    el.dataset.drawn = '';
    const axis = { stroke: colour('soft'), grid: { stroke: colour('line'), width: 1 }, ticks: { stroke: colour('line') }, font: '11px system-ui, sans-serif' };
    const shown = data.length - 1;
    plot = new uPlot({
      width: el.clientWidth, height: 300, padding: [10, 8, 0, 0],
      tzDate: (ts) => uPlot.tzDate(new Date(ts * 1e3), 'Etc/UTC'),
      scales: { x: { range: [from, to] } },
      axes: [{ ...axis, space: 76, values: (_, splits, __, ___, incr) => splits.map((ts) => {
        const text = new Date(ts * 1e3).toISOString();
        return incr >= 86400 ? text.slice(5, 10) : incr >= 60 ? text.slice(11, 16) : text.slice(11, 19);
      }) }, { ...axis, size: 58 }],
      cursor: { drag: { x: true, y: false }, focus: { prox: 24 } },
      focus: { alpha: .25 },
      legend: { show: shown <= 12 },
      series: [{ label: 'UTC', value: (_, ts) => (ts == null ? '--' : new Date(ts * 1e3).toISOString().slice(0, 19).replace('T', ' ')) },
        ...series.slice(0, LINES_MAX).map((one, i) => ({ label: named(one.metric), stroke: colour(`l${i % 4}`), width: 1.6, spanGaps: false,
          dash: [[], [8, 4], [2, 3], [10, 3, 2, 3]][Math.floor(i / 4) % 4], points: { size: 4 }, value: (_, v) => number(v) }))],
      hooks: { setSelect: [(u) => {
        if (u.select.width < 6) return;
        const a = u.posToVal(u.select.left, 'x'), b = u.posToVal(u.select.left + u.select.width, 'x');
        const q = new URLSearchParams(location.search);
        q.set('range', `${Math.max(1, Math.round(b - a))}s`); q.set('end', new Date(b * 1e3).toISOString()); q.delete('step');
        location.search = q.toString();
      }] },
    }, data, el);
    const said = document.getElementById('drawn');
    if (said) said.textContent = series.length > LINES_MAX ? `${LINES_MAX} of ${series.length} series are drawn; drag over a part to look closer` : 'drag over a part to look closer';
  };
  const load = async () => {
    const answer = await fetch('/api/v1/query_range', { method: 'POST', body: new URLSearchParams({ query: el.dataset.query, start: from, end: to, step }) });
    if (!answer.ok) return;
    series = (await answer.json()).data.result;
    draw();
  };
  let timer = 0;
  addEventListener('resize', () => { clearTimeout(timer); timer = setTimeout(() => { if (plot) plot.setSize({ width: el.clientWidth, height: 300 }); }, 100); });
  document.addEventListener('daruma:theme', draw);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  // Without an answer the server's own picture stays.
  load().catch(() => {});
})();
