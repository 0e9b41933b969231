// A lane for each agent: from a month, as how much was said, down to each message and whom it went to.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/standalone.module.js";
import { useData } from "./data.js";
import { Agent, Figure, Missing, axis, note, roleTint, tint, useCanvas } from "./look.js";
import { clock, count, day, plural, safe, short } from "./text.js";

const LANE = 26;
const TOP = 8;
const BOTTOM = 24;
const REACH = 9; // pixels between the pointer and a message
const SAYS = { ping_pong: (a) => `ping-pong × ${a.rounds}`, cycle: (a) => `circle × ${a.rounds}`, silent: () => "silent", storm: (a) => `flood of ${a.messages}`, duplicates: (a) => `the same × ${a.messages}` };

function lanes(g, w, d, marked, c, left) {
  g.textAlign = "left";
  g.textBaseline = "middle";
  d.agents.forEach((a, i) => {
    const y = TOP + i * LANE;
    if (i % 2) {
      g.globalAlpha = 0.5;
      g.fillStyle = c.bg2;
      g.fillRect(0, y, w, LANE);
    }
    if (a.id === marked) {
      g.globalAlpha = 0.16;
      g.fillStyle = c.accent;
      g.fillRect(0, y, w, LANE);
    }
    g.globalAlpha = 1;
    g.fillStyle = c[tint(a.id, a.role)];
    g.beginPath();
    g.roundRect(6, y + 8, 9, 9, 3);
    g.fill();
    g.fillStyle = c.text;
    g.font = "12.5px system-ui";
    g.fillText(short(a.id, left > 100 ? 17 : 8), 21, y + LANE / 2 + 1);
  });
  g.textBaseline = "alphabetic";
}

function roleLines(g, d, X, left, right, c) {
  d.agents.forEach((a, i) => {
    for (const [begin, end, role] of d.roles[a.id] || []) {
      const x0 = Math.max(left, X(begin));
      const x1 = Math.min(right, X(end));
      if (x1 < x0) continue;
      g.globalAlpha = role === a.role ? 0.45 : 0.95;
      g.fillStyle = c[roleTint(role)];
      g.fillRect(x0, TOP + i * LANE + LANE - 4, Math.max(1.5, x1 - x0), 2.5);
    }
  });
  g.globalAlpha = 1;
}

const middle = (i) => TOP + i * LANE + LANE / 2 - 2;
const tintOf = (d, i, c) => (i >= 0 ? c[tint(d.agents[i].id, d.agents[i].role)] : c.faint);

function messages(g, d, X, lit, chosen, c) {
  const hits = [];
  g.lineWidth = 1.2;
  for (const [, t, from, whom, , what, , conversation] of d.marks) {
    const on = !lit || conversation === lit;
    if (from < 0) continue;
    g.strokeStyle = what === 2 ? c.bad : tintOf(d, from, c);
    g.globalAlpha = lit ? (on ? 0.9 : 0.03) : what === 2 ? 0.75 : 0.22;
    for (const other of whom) {
      if (other < 0 || other === from) continue;
      const x = X(t);
      const bend = Math.min(26, Math.abs(other - from) * 4);
      g.beginPath();
      g.moveTo(x, middle(from));
      g.bezierCurveTo(x + bend, middle(from), x + bend, middle(other), x, middle(other));
      g.stroke();
      if (on && (lit || d.marks.length < 300)) {
        const way = Math.sign(other - from);
        g.beginPath();
        g.moveTo(x, middle(other));
        g.lineTo(x + 5, middle(other) - way * 5);
        g.lineTo(x + 1, middle(other) - way * 7);
        g.fillStyle = g.strokeStyle;
        g.fill();
      }
    }
  }
  for (const mark of d.marks) {
    const [id, t, from, whom, type, what, , conversation] = mark;
    const lane = from >= 0 ? from : whom.find((one) => one >= 0) ?? -1;
    if (lane < 0) continue;
    const x = X(t);
    const y = middle(lane);
    hits.push({ x, y, mark });
    g.globalAlpha = !lit || conversation === lit ? 1 : 0.14;
    g.fillStyle = what === 2 ? c.bad : tintOf(d, from, c);
    g.beginPath();
    if (what) g.arc(x, y, what === 2 ? 4.5 : 3.6, 0, 7);
    else g.rect(x - 2.4, y - 2.4, 4.8, 4.8);
    g.fill();
    if (/(error|failed|cancelled)$/.test(type)) {
      g.strokeStyle = c.warn;
      g.lineWidth = 2;
      g.stroke();
      g.lineWidth = 1.2;
    }
    if (id === chosen) {
      g.globalAlpha = 1;
      g.strokeStyle = c.text;
      g.lineWidth = 2;
      g.beginPath();
      g.arc(x, y, 8, 0, 7);
      g.stroke();
    }
  }
  g.globalAlpha = 1;
  return hits;
}

function densities(g, d, X, c) {
  const most = Math.max(1, ...d.cells.map((cell) => cell[2]));
  const width = X(d.start + d.bucket) - X(d.start);
  for (const [lane, slice, said, , waiting] of d.cells) {
    const x = X(Math.max(d.from, d.start + slice * d.bucket));
    const y = TOP + lane * LANE;
    const v = Math.log1p(said) / Math.log1p(most);
    const high = 5 + v * (LANE - 11);
    g.fillStyle = tintOf(d, lane, c);
    g.globalAlpha = 0.18 + 0.82 * v;
    g.fillRect(x, y + (LANE - 4 - high) / 2 + 1, Math.max(1, width - 0.6), high);
    if (waiting > 2) {
      g.globalAlpha = 1;
      g.fillStyle = c.bad;
      g.fillRect(x, y + 2, Math.max(2, width - 0.6), 2.5);
    }
  }
  g.globalAlpha = 1;
}

function frames(g, d, X, left, right, c) {
  g.font = "11px system-ui";
  for (const a of d.anomalies) {
    const rows = a.agents.map((one) => d.agents.findIndex((agent) => agent.id === one)).filter((row) => row >= 0);
    const x0 = Math.max(left, X(a.since) - 5);
    const x1 = Math.min(right, X(a.until) + 5);
    if (!rows.length || x1 <= x0) continue;
    g.strokeStyle = a.kind === "silent" || a.kind === "storm" ? c.bad : c.warn;
    g.lineWidth = 1.5;
    for (const row of rows) {
      g.beginPath();
      g.roundRect(x0, TOP + row * LANE + 1, x1 - x0, LANE - 6, 5);
      g.stroke();
    }
    const text = SAYS[a.kind](a);
    const wide = g.measureText(text).width;
    const y = TOP + Math.min(...rows) * LANE + LANE / 2 + 2;
    // Behind the frame; where there is no room, before it, or inside.
    const x = x1 + 6 + wide < right ? x1 + 6 : x0 - 6 - wide > left ? x0 - 6 - wide : Math.max(left, x1 - wide - 6);
    g.globalAlpha = 0.85;
    g.fillStyle = c.panel;
    g.fillRect(x - 3, y - 10, wide + 6, 14);
    g.globalAlpha = 1;
    g.textAlign = "left";
    g.fillStyle = g.strokeStyle;
    g.fillText(text, x, y);
  }
}

export function Timeline({ limits, agent, go, open }) {
  const d = useData("lanes", limits);
  const drawn = useRef({ hits: [], X: () => 0, left: 132 });
  const drag = useRef(null);
  const [band, setBand] = useState(null);
  const [lit, light] = useState(null);
  const [chosen, choose] = useState(null);
  const ready = d && !d.error;
  const height = ready ? TOP + Math.max(1, d.agents.length) * LANE + BOTTOM : 300;
  const ref = useCanvas(
    (g, w, h, c) => {
      if (!ready) return;
      const left = w < 600 ? 84 : 136;
      const right = w - 8;
      const X = (t) => left + ((t - d.from) / (d.to - d.from)) * (right - left);
      axis(g, left, right, d.from, d.to, h - BOTTOM, c);
      lanes(g, w, d, agent, c, left);
      g.save();
      g.beginPath();
      g.rect(left - 6, 0, right - left + 14, h);
      g.clip();
      roleLines(g, d, X, left, right, c);
      drawn.current = { left, right, X, hits: d.marks ? messages(g, d, X, lit, chosen, c) : (densities(g, d, X, c), []) };
      frames(g, d, X, left, right, c);
      if (band) {
        g.globalAlpha = 0.2;
        g.fillStyle = c.accent;
        g.fillRect(band[0], 0, band[1] - band[0], h - BOTTOM);
        g.globalAlpha = 1;
      }
      g.restore();
      return `${d.from.toFixed(3)} to ${d.to.toFixed(3)}`;
    },
    [d, lit, chosen, band, agent],
    height,
  );
  const at = (event) => {
    const box = ref.current.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const timeAt = (x) => {
    const { left, right } = drawn.current;
    return d.from + (Math.min(right, Math.max(left, x)) - left) / (right - left) * (d.to - d.from);
  };
  const near = (x, y) => {
    let best = null;
    let least = REACH * REACH;
    for (const hit of drawn.current.hits) {
      const far = (hit.x - x) ** 2 + (hit.y - y) ** 2;
      if (far < least) [best, least] = [hit.mark, far];
    }
    return best;
  };
  const zoom = (from, to) => to - from >= 0.5 && go(null, { from: Math.max(0, from).toFixed(3), to: to.toFixed(3) });
  const about = (factor, share = 0.5) => {
    const t = d.from + (d.to - d.from) * share;
    zoom(t - (d.to - d.from) * share * factor, t + (d.to - d.from) * (1 - share) * factor);
  };
  const move = (event) => {
    const [x, y] = at(event);
    if (drag.current != null) return setBand([Math.min(drag.current, x), Math.max(drag.current, x)]);
    const mark = near(x, y);
    light(mark ? mark[7] : null);
    ref.current.style.cursor = mark ? "pointer" : "crosshair";
    if (mark) {
      const name = (lane) => (lane >= 0 ? short(d.agents[lane].id) : "?");
      note(event, html`<b>${name(mark[2])} → ${mark[3].map(name).join(", ") || "all"}</b><div>${clock(mark[1], true)} ${short(mark[4], 40)}${mark[5] === 2 ? ", no answer yet" : ""}</div><div>${short(mark[7], 40)}</div>`);
      return;
    }
    const lane = Math.floor((y - TOP) / LANE);
    const slice = Math.floor((timeAt(x) - d.start) / d.bucket);
    const cell = x > drawn.current.left && !d.marks && d.cells.find((one) => one[0] === lane && one[1] === slice);
    note(event, cell ? html`<b>${short(d.agents[lane].id)}</b><div>${day(d.start + slice * d.bucket)} ${clock(d.start + slice * d.bucket)}: said ${cell[2]}, ${plural(cell[3], "request")}${cell[4] ? `, ${cell[4]} waiting` : ""}</div>` : null);
  };
  const up = (event) => {
    const begin = drag.current;
    drag.current = null;
    setBand(null);
    const [x, y] = at(event);
    const lane = Math.floor((y - TOP) / LANE);
    if (begin == null) {
      if (x < drawn.current.left - 6 && d.agents[lane]) go("/agent/" + encodeURIComponent(d.agents[lane].id), {});
      return;
    }
    if (Math.abs(x - begin) > 6) return zoom(timeAt(Math.min(x, begin)), timeAt(Math.max(x, begin)));
    const mark = near(x, y);
    if (mark) {
      choose(mark[0]);
      open(mark[0]);
    }
  };
  const wheel = (event) => {
    if (!event.shiftKey) return;
    event.preventDefault();
    const { left, right } = drawn.current;
    about(event.deltaY + event.deltaX > 0 ? 1.6 : 0.6, (at(event)[0] - left) / (right - left));
  };
  useEffect(() => {
    const canvas = ref.current;
    canvas?.addEventListener("wheel", wheel, { passive: false });
    return () => canvas?.removeEventListener("wheel", wheel);
  });
  const key = (event) => {
    const wide = d.to - d.from;
    const step = (way) => {
      const marks = d.marks || [];
      const place = marks.findIndex((mark) => mark[0] === chosen);
      const next = marks[place < 0 ? (way > 0 ? 0 : marks.length - 1) : Math.min(marks.length - 1, Math.max(0, place + way))];
      if (next) {
        choose(next[0]);
        light(next[7]);
      }
    };
    const does = {
      ArrowLeft: () => zoom(d.from - wide / 4, d.to - wide / 4),
      ArrowRight: () => zoom(d.from + wide / 4, d.to + wide / 4),
      "+": () => about(0.5),
      "=": () => about(0.5),
      "-": () => about(2),
      n: () => step(1),
      p: () => step(-1),
      Enter: () => chosen && open(chosen),
    }[event.key];
    if (!does || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    does();
  };
  const roles = useMemo(() => (ready ? [...new Set(d.agents.map((a) => a.role).filter(Boolean))] : []), [d]);
  if (!ready) return html`<${Missing} data=${d} />`;
  const what = d.marks ? `${plural(d.marks.length, "message")}, each one drawn` : `${plural(d.entries, "message")}, by ${d.bucket >= 3600 ? d.bucket / 3600 + " h" : d.bucket / 60 + " min"}`;
  const rows = () =>
    d.marks
      ? d.marks.map(([id, t, from, whom, type, how, , conversation]) => ({ entry: id, t, from: d.agents[from]?.id, to: whom.map((one) => d.agents[one]?.id ?? "?"), type, waits: how === 2, conversation }))
      : d.agents.map((a, i) => ({ ...a, asked: d.cells.filter((cell) => cell[0] === i).reduce((n, cell) => n + cell[3], 0), waiting: d.cells.filter((cell) => cell[0] === i).reduce((n, cell) => n + cell[4], 0) }));
  const columns = d.marks
    ? [["time", "t", { show: (r) => `${day(r.t)} ${clock(r.t, true)}` }], ["from", "from", { show: (r) => short(r.from ?? "–") }], ["to", (r) => r.to.join(), { show: (r) => r.to.map((one) => short(one)).join(", ") }], ["event", "type"], ["waits", "waits", { show: (r) => (r.waits ? "waits" : "") }], ["conversation", "conversation", { show: (r) => short(r.conversation, 30) }]]
    : [["agent", "id", { show: (a) => html`<${Agent} ...${a} />` }], ["role", "role"], ["said", "said", { n: true }], ["asked", "asked", { n: true }], ["waiting", "waiting", { n: true }]];
  return html`<${Figure} title="Timeline" note=${what + (d.agents_n > d.agents.length ? `; ${d.agents.length} of ${count(d.agents_n)} agents` : "")} columns=${columns} rows=${rows} open=${open}
      tools=${html`<span class="legend wide-only">${roles.slice(0, 9).map((role) => html`<span><i class="dot" style=${{ background: `var(--${roleTint(role)})` }}></i>${short(role, 18)}</span>`)}<span><i class="dot round" style=${{ background: "var(--bad)" }}></i>waits</span></span><span class="seg"><button aria-label="zoom in" onClick=${() => about(0.5)}>+</button><button aria-label="zoom out" onClick=${() => about(2)}>−</button></span>`}>
    ${d.agents.length ? null : html`<p class="muted empty">Nobody said anything in this time.</p>`}
    <canvas ref=${ref} tabindex="0" role="img" aria-label=${`Timeline of ${plural(d.agents.length, "agent")}, ${what}. Arrow keys move, plus and minus zoom, n and p choose a message, Enter reads it.`}
      onMouseDown=${(event) => event.button === 0 && at(event)[0] > drawn.current.left - 6 ? (drag.current = at(event)[0]) : null} onMouseMove=${move} onMouseUp=${up} onKeyDown=${key}
      onMouseLeave=${(event) => { drag.current = null; setBand(null); light(null); note(event, null); }}></canvas>
    <p class="muted hint">Drag to zoom in, shift and wheel to zoom, click a message to read it in the log. The line below a lane is the role at that time.</p>
  </${Figure}>`;
}
