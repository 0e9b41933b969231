// The first page: how much, how fast, and what needs somebody.

import { html } from "../vendor/standalone.module.js";
import { useData, useLive } from "./data.js";
import { Agent, Dot, Figure, Missing, Speech, Table, axis, colour, note, roleTint, useCanvas } from "./look.js";
import { clock, count, day, duration, odds, percent, plural, safe, share, short, to } from "./text.js";

const LEFT = 40;
const BOTTOM = 20;

export function Volume({ d, height = 300, pick }) {
  const start = d.start ?? d.from;
  const end = start + d.said.length * d.bucket;
  const ref = useCanvas(
    (g, w, h, c) => {
      const most = Math.max(1, ...d.said);
      const width = w - LEFT;
      const bar = width / d.said.length;
      const base = h - BOTTOM;
      const Y = (n) => (n / most / 1.06) * base;
      g.font = "11px system-ui";
      for (let i = 0; i <= 3 && (i < 1 || most > 2); i++) {
        const n = Math.round((most * i) / 3);
        g.globalAlpha = 0.6;
        g.fillStyle = c.line;
        g.fillRect(LEFT, base - Y(n), width, 1);
        g.globalAlpha = 1;
        g.fillStyle = c.faint;
        g.textAlign = "right";
        g.fillText(count(n), LEFT - 7, base - Y(n) + 4);
      }
      axis(g, LEFT, w, start, end, base, c);
      const fill = g.createLinearGradient(0, 0, 0, base);
      fill.addColorStop(0, c.accent);
      fill.addColorStop(1, c.accent + "70");
      const thick = Math.max(1, bar - (bar > 3 ? 1 : 0));
      d.said.forEach((n, i) => {
        if (!n) return;
        g.fillStyle = fill;
        g.beginPath();
        g.roundRect(LEFT + i * bar, base - Y(n), thick, Y(n), [Math.min(2, thick / 2), Math.min(2, thick / 2), 0, 0]);
        g.fill();
        if (d.wait?.[i]) {
          g.fillStyle = c.bad;
          g.fillRect(LEFT + i * bar, base - Math.max(2, Y(d.wait[i])), thick, Math.max(2, Y(d.wait[i])));
        }
      });
    },
    [d],
    height,
  );
  const at = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    return Math.floor(((event.clientX - box.left - LEFT) / (box.width - LEFT)) * d.said.length);
  };
  const move = (event) => {
    const i = at(event);
    if (i < 0 || i >= d.said.length) return note(event, null);
    const t = start + i * d.bucket;
    note(event, html`<b>${day(t)} ${clock(t)}</b><div>${plural(d.said[i], "message")}, ${plural(d.asked?.[i] ?? 0, "request")}${d.wait?.[i] ? `, ${d.wait[i]} still waiting` : ""}</div>`);
  };
  const click = (event) => {
    const i = at(event);
    if (pick && i >= 0 && i < d.said.length) pick(start + i * d.bucket, start + (i + 1) * d.bucket);
  };
  return html`<canvas ref=${ref} role="img" aria-label=${`Messages over time: ${count(d.said.reduce((a, b) => a + b, 0))} in all`} onMouseMove=${move} onMouseLeave=${(event) => note(event, null)} onClick=${click}></canvas>`;
}

export const volumeTable = (d) => d.said.map((said, i) => ({ t: (d.start ?? d.from) + i * d.bucket, said, asked: d.asked?.[i], wait: d.wait?.[i] })).filter((row) => row.said);
export const VOLUME_COLUMNS = [
  ["from", "t", { show: (row) => `${day(row.t)} ${clock(row.t)}` }],
  ["said", "said", { n: true }],
  ["asked", "asked", { n: true }],
  ["waiting", "wait", { n: true }],
];

function Spark({ bars, fill }) {
  const most = Math.max(1, ...bars);
  const width = 110 / bars.length;
  return html`<svg width="110" height="20" aria-hidden="true">${bars.map((n, i) => (n ? html`<rect x=${i * width} y=${20 - Math.max(1, (n / most) * 19)} width=${width - 0.5} height=${Math.max(1, (n / most) * 19)} style=${{ fill }} />` : null))}</svg>`;
}

export const Meter = ({ part, whole, low = 0.85 }) =>
  html`<span class="meter"><i style=${{ width: (whole ? (part / whole) * 100 : 0) + "%", background: whole && part / whole < low ? "var(--bad)" : "var(--good)" }}></i></span> <span class="num">${percent(share(part, whole))}</span>`;

// ---- what needs somebody

const ICONS = {
  silent: "M4 10v4h4l5 4V6L8 10H4zM17 9l5 6M22 9l-5 6",
  storm: "M12 3v13M6 11l6 6 6-6M5 21h14",
  ping_pong: "M4 8h14l-4-4M20 16H6l4 4",
  cycle: "M20 11a8 8 0 1 0-2.3 6M20 5v6h-6",
  duplicates: "M8 8h11v12H8zM5 16V4h11",
};
const SAYS = {
  silent: ["has gone silent", (a) => `${plural(a.messages, "request")} to it since its last word, none answered; before, it answered ${percent(a.share)}. ${odds(a.odds)}`],
  storm: ["is flooded with requests", (a) => `${a.messages} that nobody answered, ${a.peak} of them within ten minutes. ${odds(a.odds)}`],
  ping_pong: ["play ping-pong", (a) => `${plural(a.rounds, "round")}, ${plural(a.messages, "message")}, in ${duration(a.until - a.since)}.`],
  cycle: ["go round in a circle", (a) => `${plural(a.rounds, "round")}, ${plural(a.messages, "message")}, in ${duration(a.until - a.since)}.`],
  duplicates: ["the same message again and again", (a) => `${a.messages} times within ${duration(a.until - a.since)}, ${a.bytes} bytes each.`],
};

/** Where an anomaly is to be seen. */
const showing = (a) =>
  a.conversation ? to.conversation(a.conversation, a.entry) : to.page("/timeline", { from: Math.floor(a.since - 1800), to: Math.ceil(Math.min(a.until, a.since + 5400) + 600), agent: a.agents[0] });

function Attention({ anomalies, unready }) {
  return html`<section class="card attention" aria-label="Needs attention"><h2>Needs attention</h2>${anomalies.length
    ? anomalies.slice(0, 12).map((a) => html`<div class=${"alert " + (a.kind === "duplicates" ? "mild" : "")}>
        <span class="icon"><svg viewBox="0 0 24 24" aria-hidden="true"><path d=${ICONS[a.kind]} /></svg></span>
        <div><b>${a.agents.map((one) => short(one, 26)).join(a.kind === "cycle" || a.kind === "duplicates" ? " → " : ", ")}</b> ${SAYS[a.kind][0]}<p>${SAYS[a.kind][1](a)}</p></div>
        <a class="btn" href=${showing(a)} aria-label=${`show: ${safe(a.agents[0])} ${SAYS[a.kind][0]}`}>show</a></div>`)
    : unready ? html`<p class="muted empty" role="status">looking at the last month…</p>` : html`<p class="muted empty">Nobody is silent, flooded, or going in circles.</p>`}</section>`;
}

function Teams({ teams }) {
  if (!teams.length) return html`<p class="muted empty">No composition has eight conversations yet.</p>`;
  const least = Math.max(0, Math.min(0.98, ...teams.slice(0, 8).map((t) => t.share_low)) - 0.02);
  const X = (v) => ((v - least) / (1 - least)) * 94 + 3;
  return html`<div class="scroll"><table><thead><tr><th>composition</th><th class="n">tasks</th><th class="wide" title=${`from ${percent(least)} to 100 %; the line is the 95 % interval`}>answered</th><th class="n">median</th></tr></thead><tbody>${teams.slice(0, 8).map((t) => html`<tr>
    <td title=${t.team.map(safe).join(", ")}>${t.team.slice(0, 6).map((role) => html`<i class="dot" style=${{ background: `var(--${roleTint(role)})` }}></i>`)} <span class="role">${short(t.team.map((role) => short(role, 12)).join(" "), 30)}</span></td>
    <td class="n">${count(t.conversations)}</td>
    <td><svg class="interval" role="img" aria-label=${`${percent(t.share)}, from ${percent(t.share_low)} to ${percent(t.share_high)}`}><line x1=${X(t.share_low) + "%"} x2=${X(t.share_high) + "%"} y1="8" y2="8" /><circle cx=${X(t.share) + "%"} cy="8" r="4.5" /></svg></td>
    <td class="n">${duration(t.median)}</td></tr>`)}</tbody></table></div>`;
}

function Live({ open }) {
  const live = useLive();
  if (!live.last.length) return null;
  return html`<section class="card" aria-label="Just now"><h2>Just now <span class="muted">${live.rate.toFixed(1)} a second</span></h2><table class="live-list"><tbody>${live.last.slice(0, 8).map((one) => html`<tr>
    <td class="time">${clock(one.t, true)}</td><td><${Speech} from=${one.from} to=${one.to} /></td><td class="muted">${short(one.type, 30)}</td><td class="n"><button class="btn small" onClick=${() => open(one.id)}>read</button></td></tr>`)}</tbody></table></section>`;
}

function Change({ now, before, good = 1 }) {
  if (!before) return null;
  const more = ((now - before) / before) * 100;
  return html`<em class=${more * good >= 0 ? "up" : "down"}>${more >= 0 ? "▲" : "▼"} ${Math.abs(more).toFixed(0)} %</em> <em>to the time before</em>`;
}

export function Overview({ limits, go, open }) {
  const d = useData("overview", limits);
  const p = useData("pending", { ...limits, limit: 8 }, { shows: false });
  if (!d || d.error) return html`<${Missing} data=${d} />`;
  const answered = share(d.answered, d.asked_n);
  const before = share(d.previous.answered, d.previous.asked_n);
  const span = { from: limits.from, to: limits.to };
  const role = new Map(d.agents.map((one) => [one.id, one.role]));
  const roles = new Set(d.agents.map((one) => one.role).filter(Boolean)).size;
  return html`<div class="grid">
    <h1 class="hidden">Overview</h1>
    <div class="grid kpis">
      <div class="card kpi"><span>Messages</span><b>${count(d.messages)}</b><${Change} now=${d.messages} before=${d.previous.messages} /></div>
      <div class="card kpi"><span>Requests answered</span><b>${percent(answered)}</b>${before != null && answered != null ? html`<em class=${answered >= before ? "up" : "down"}>${answered >= before ? "▲" : "▼"} ${Math.abs((answered - before) * 100).toFixed(1)} points</em> ` : null}<em>of ${count(d.asked_n)}</em></div>
      <div class="card kpi"><span>Median time to answer</span><b>${duration(d.median)}</b><em>95 % within ${duration(d.p95)}</em></div>
      <a class="card kpi" href=${to.page("/pending", span)}><span>Waiting for an answer</span><b class=${d.pending > 0 && d.pending > d.asked_n * 0.05 ? "down" : ""}>${count(d.pending)}</b><em>${p?.rows?.length ? `the oldest for ${duration(p.rows[0].age)}` : "nobody waits"}</em></a>
      <div class="card kpi"><span>Agents at work</span><b>${count(d.agents_n)}</b><em>${roles ? `in ${plural(roles, "role")}` : "none has a role"}</em></div>
    </div>
    <div class="grid two">
      <${Figure} title="Messages" columns=${VOLUME_COLUMNS} rows=${() => volumeTable(d)} tools=${html`<span class="legend"><span><i class="dot" style=${{ background: "var(--accent)" }}></i>said</span><span><i class="dot" style=${{ background: "var(--bad)" }}></i>still waiting</span></span>`}>
        <${Volume} d=${d} pick=${(from, end) => go("/timeline", { from, to: end })} /></${Figure}>
      <${Attention} anomalies=${d.anomalies} unready=${d.unready?.includes("anomalies")} />
    </div>
    <${Live} open=${open} />
    <div class="grid even">
      <section class="card" aria-label="Agents"><h2>Agents ${d.agents_n > d.agents.length ? html`<span class="muted">${d.agents.length} of ${count(d.agents_n)}</span>` : null}</h2><${Table} empty="Nobody said anything in this time." rows=${d.agents} columns=${[
        ["agent", "id", { show: (a) => html`<${Agent} ...${a} limits=${span} />` }],
        ["role", "role", { class: "role", show: (a) => (a.role ? short(a.role, 18) : "–") }],
        ["said", "said", { n: true, show: (a) => count(a.said) }],
        ["asked", "asked", { n: true, show: (a) => count(a.asked) }],
        ["answered", (a) => share(a.answered, a.asked), { show: (a) => (a.asked ? html`<${Meter} part=${a.answered} whole=${a.asked} />` : html`<span class="muted">–</span>`) }],
        ["median", "median", { n: true, show: (a) => duration(a.median) }],
        ["95 %", "p95", { n: true, show: (a) => duration(a.p95) }],
        ["waiting", "pending", { n: true, show: (a) => html`<span class=${a.pending > 10 ? "down" : ""}>${a.pending || ""}</span>` }],
        ["when", null, { fixed: true, show: (a) => html`<${Spark} bars=${a.spark} fill=${colour(a.id, a.role)} />` }],
      ]} /></section>
      <div class="grid top">
        <section class="card" aria-label="Teams"><h2>Teams <span class="muted">30 days: what gets answered, with its 95 % interval</span></h2><${Teams} teams=${d.teams} /></section>
        <section class="card" aria-label="Waiting longest"><h2>Waiting longest <span class="grow"></span><a class="muted" href=${to.page("/pending", span)}>all</a></h2>${p?.rows?.length
          ? html`<div class="scroll"><table><tbody>${p.rows.map((r) => html`<tr><td class="n muted">${duration(r.age)}</td><td>${r.from ? html`<${Dot} id=${r.from} role=${role.get(r.from)} /> ` : ""}${short(r.from ?? "?")} → ${r.to.map((one) => short(one)).slice(0, 2).join(", ")}</td><td class="n"><a class="muted" href=${to.conversation(r.conversation, r.id)}>${short(r.conversation, 22)}</a></td></tr>`)}</tbody></table></div>`
          : html`<p class="muted empty">Every request has its answer.</p>`}</section>
      </div>
    </div>
  </div>`;
}
