// A conversation as a sequence diagram, with what was said; rounds that repeat are folded.

import { html, useEffect, useState } from "../vendor/standalone.module.js";
import { ask } from "./data.js";
import { Agent, Missing, Table, colour } from "./look.js";
import { clock, day, duration, plural, safe, short } from "./text.js";

const SHOWN = 4; // messages of a loop before it is folded
const MOST_LIFELINES = 12;
const PAGES_TO_FIND = 25;

/** The rows that are shown: what a loop repeats is one row. */
function folded(rows, loops) {
  const of = new Map();
  loops.forEach((loop) => {
    const first = rows.findIndex((row) => row.id === loop.ids[0]);
    const last = rows.findLastIndex((row) => loop.ids.includes(row.id));
    // Answers stand between the messages of a loop, and are folded with them.
    if (first >= 0) for (let i = first; i <= last; i++) of.set(i, loop);
  });
  const shown = [];
  let inside = null;
  let seen = 0;
  rows.forEach((row, i) => {
    const loop = of.get(i);
    if (loop && loop !== inside) {
      shown.push({ loop });
      seen = 0;
    }
    inside = loop;
    if (!loop || seen++ < SHOWN) shown.push({ row });
  });
  return shown;
}

export function Conversation({ id, session, entry, open }) {
  const [d, set] = useState(null);
  const [busy, setBusy] = useState(false);
  const [unfolded, unfold] = useState(false);
  const [table, setTable] = useState(false);
  const merged = (known, more) => ({ ...known, to: more.to, next: more.next, rows: [...known.rows, ...more.rows], loops: [...known.loops, ...more.loops], agents: [...known.agents, ...more.agents.filter((one) => !known.agents.some((agent) => agent.id === one.id))] });
  const which = session ? { session } : { id };
  useEffect(() => {
    let on = true;
    set(null);
    if (!id && !session) return;
    (async () => {
      try {
        let all = await ask("conversation", which);
        // A link to an entry shows it, however far down it is.
        for (let i = 0; entry && all.next && i < PAGES_TO_FIND && !all.rows.some((row) => row.id === entry); i++) all = merged(all, await ask("conversation", { ...which, after: all.next }));
        if (!on) return;
        const loop = entry && all.loops.find((one) => one.ids.includes(entry));
        if (loop && !loop.ids.slice(0, 2).includes(entry)) unfold(true);
        set(all);
        if (entry) requestAnimationFrame(() => document.getElementById(entry)?.scrollIntoView({ block: "center" }));
      } catch (error) {
        if (on) set({ error: error.message });
      }
    })();
    return () => (on = false);
  }, [id, session, entry]);
  if (!id && !session) return html`<div class="spin">A conversation is named by its id: follow a link to it from another page.</div>`;
  if (!d || d.error) return html`<${Missing} data=${d} what="reading the log…" />`;
  const more = async () => {
    setBusy(true);
    try {
      set(merged(d, await ask("conversation", { ...which, after: d.next })));
    } finally {
      setBusy(false);
    }
  };
  const agents = d.agents.slice(0, MOST_LIFELINES);
  const waiting = d.rows.filter((row) => row.waits).length;
  const shown = unfolded ? d.rows.map((row) => ({ row })) : folded(d.rows, d.loops);
  const grid = { gridTemplateColumns: `72px repeat(${agents.length}, minmax(118px, 1fr))` };
  return html`<section class="card seq" aria-label="Conversation">
    <h2><bdi title=${safe(d.id)}>${short(d.id, 60)}</bdi> <span class="muted">${plural(d.rows.length, "message")}${d.next ? " so far" : ""}, ${day(d.from)} ${clock(d.from)} to ${day(d.to) === day(d.from) ? "" : day(d.to) + " "}${clock(d.to)}${waiting ? `, ${waiting} waiting` : ""}${d.agents.length > agents.length ? `, ${d.agents.length} agents` : ""}</span><span class="grow"></span>
      ${d.loops.length ? html`<button class="btn small" aria-pressed=${unfolded} onClick=${() => unfold(!unfolded)}>${unfolded ? "fold the loops" : "show every round"}</button>` : null}
      <button class="btn small" aria-pressed=${table} onClick=${() => setTable(!table)}>${table ? "show as diagram" : "show as table"}</button></h2>
    ${table
      ? html`<${Table} open=${open} rows=${d.rows.map((row) => ({ ...row, entry: row.id }))} columns=${[["time", "t", { show: (r) => clock(r.t, true) }], ["from", "from", { show: (r) => short(r.from ?? "–") }], ["to", (r) => r.to.join(), { show: (r) => r.to.map((one) => short(one)).join(", ") }], ["event", "type"], ["answer", "after", { show: (r) => (r.waits ? "waits" : r.after == null ? "" : `after ${duration(r.after)}`) }], ["text", "text", { class: "text", show: (r) => safe(r.text ?? r.gone ?? "").slice(0, 400) }]]} />`
      : html`<div class="diagram"><div class="seqhead" style=${grid}><span></span>${agents.map((a) => html`<div><${Agent} ...${a} length=${18} /><small>${a.role ? short(a.role, 18) : ""}</small></div>`)}</div>
        ${shown.map(({ row, loop }) => (loop ? html`<${Loop} loop=${loop} grid=${grid} />` : html`<${Message} row=${row} agents=${agents} grid=${grid} open=${open} marked=${row.id === entry} key=${row.file + row.offset} />`))}</div>`}
    ${d.next ? html`<p class="more"><button class="btn" disabled=${busy} onClick=${more}>${busy ? "reading…" : "show what follows"}</button></p>` : null}
  </section>`;
}

function Loop({ loop, grid }) {
  return html`<div class="seqrow" style=${grid}><span class="time">${clock(loop.since, true)}</span><div class="loop"><span class="turn" aria-hidden="true">⟳</span><div><b>${loop.agents.map((one) => short(one)).join(" → ")} → …</b><div class="muted">the same round ${loop.rounds} times, ${plural(loop.messages, "message")} in ${duration(loop.until - loop.since)}; the first are shown, the rest is folded</div></div></div></div>`;
}

function Message({ row, agents, grid, open, marked }) {
  const place = (name) => agents.findIndex((one) => one.id === name);
  const author = place(row.from);
  const whom = row.to.map(place).filter((one) => one >= 0 && one !== author);
  const from = author >= 0 ? author : whom.length ? whom[0] : 0;
  const to = whom.length && author >= 0 ? whom.reduce((far, one) => (Math.abs(one - from) > Math.abs(far - from) ? one : far), whom[0]) : from;
  const [low, high] = [Math.min(from, to), Math.max(from, to)];
  const self = from === to;
  const kind = row.type.split(/[:.]/).pop().replaceAll("_", " ");
  const label = row.waits ? "no answer yet" : row.after != null ? duration(row.after) + " later" : short(kind, 24);
  const role = row.from && row.roles[row.from];
  const says = row.text || (role && /role/.test(row.type) ? `now: ${role}` : "");
  const failed = /(error|failed|cancelled)$/.test(row.type);
  return html`<div class=${"seqrow" + (marked ? " marked" : "")} id=${row.id} style=${grid}>
    ${agents.map((a, i) => html`<span class="lifeline" style=${{ left: `calc(72px + (100% - 72px) * ${(i + 0.5) / agents.length})` }}></span>`)}
    <span class="time">${clock(row.t, true)}</span>
    <div class=${"msg " + (self ? "self" : to > from ? "right" : "left") + (row.request || self ? "" : " answer") + (row.waits ? " waits" : "")} tabindex="0" role="button" title=${safe(row.type)}
      style=${{ gridColumn: `${low + 2} / ${high + 3}`, "--c": row.waits ? "var(--bad)" : failed ? "var(--warn)" : colour(row.from ?? "", role ?? agents[from]?.role) }}
      onClick=${() => open(row.id)} onKeyDown=${(event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), open(row.id))}>
      <div class="arrow" style=${{ margin: `0 ${self ? 0 : 50 / (high - low + 1)}%` }}><span class="label">${label}</span></div>
      <div class="who">${short(row.from ?? "?")} → ${row.to.map((one) => short(one)).join(", ") || "all"} <span class="muted">${label}</span></div>
      <p><span>${row.gone ? html`<em class="muted">${row.gone === "SourceMissing" ? "the log file is gone" : "the bytes in the log are others now"}</em>` : says ? safe(says) : html`<span class="muted">${safe(row.type)}</span>`}</span></p>
    </div></div>`;
}
