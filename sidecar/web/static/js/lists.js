// Pages that are lists: what waits, the sessions, one agent.

import { html, useEffect, useState } from "../vendor/standalone.module.js";
import { ask, useData } from "./data.js";
import { Agent, Dot, Figure, Missing, Speech, Table } from "./look.js";
import { VOLUME_COLUMNS, Volume, volumeTable } from "./overview.js";
import { clock, count, day, duration, percent, plural, safe, share, short, to } from "./text.js";

/** The rows of a route, page after page. */
function usePages(route, params) {
  const first = useData(route, params);
  const [rest, setRest] = useState({ of: null, rows: [], next: null });
  const [busy, setBusy] = useState(false);
  const more = rest.of === first ? rest : { of: first, rows: [], next: first?.next };
  const load = async () => {
    setBusy(true);
    try {
      const page = await ask(route, { ...params, from: first.from, to: first.to, after: more.next });
      setRest({ of: first, rows: [...more.rows, ...page.rows], next: page.next });
    } finally {
      setBusy(false);
    }
  };
  return { first, rows: [...(first?.rows || []), ...more.rows], button: more.next ? html`<p class="more"><button class="btn" disabled=${busy} onClick=${load}>${busy ? "reading…" : "show more"}</button></p>` : null };
}

function Ages({ ages }) {
  const most = Math.max(1, ...ages.map((one) => one.n));
  return html`<div class="ages" role="list">${ages.map((one) => html`<div role="listitem"><span>${one.name}</span><div class="bar"><i style=${{ width: Math.max(one.n ? 1 : 0, (one.n / most) * 100) + "%" }}></i></div><b>${count(one.n)}</b></div>`)}</div>`;
}

export function Pending({ limits, agent, open }) {
  const { first: d, rows, button } = usePages("pending", { ...limits, agent, limit: 100 });
  if (!d || d.error) return html`<${Missing} data=${d} />`;
  return html`<div class="grid"><section class="card" aria-label="Waiting, by age"><h2>Waiting for an answer <span class="muted">${plural(d.n, "request")}${agent ? html` to or by ${short(agent)}` : ""}, by age</span></h2><${Ages} ages=${d.ages} /></section>
    <section class="card" aria-label="Waiting requests"><h2>The oldest first</h2><${Table} empty="Every request has its answer." rows=${rows} columns=${[
      ["age", "age", { n: true, show: (r) => html`<b>${duration(r.age)}</b>` }],
      ["since", "t", { show: (r) => html`<span class="muted">${day(r.t)} ${clock(r.t)}</span>` }],
      ["from, to", "from", { show: (r) => html`<${Speech} from=${r.from} to=${r.to} limits=${limits} />` }],
      ["event", "type", { class: "muted", show: (r) => short(r.type, 30) }],
      ["conversation", "conversation", { show: (r) => html`<a href=${to.conversation(r.conversation, r.id)}>${short(r.conversation, 30)}</a>` }],
      ["", null, { fixed: true, n: true, show: (r) => html`<button class="btn small" onClick=${() => open(r.id)}>read</button>` }],
    ]} />${button}</section></div>`;
}

export function Sessions({ limits }) {
  const [q, setQ] = useState("");
  const [typed, type] = useState("");
  const [status, setStatus] = useState("");
  useEffect(() => {
    const timer = setTimeout(() => setQ(typed), 250);
    return () => clearTimeout(timer);
  }, [typed]);
  const { first: d, rows, button } = usePages("sessions", { ...limits, q, status, limit: 100 });
  return html`<section class="card" aria-label="Sessions"><h2>Sessions ${d && !d.error ? html`<span class="muted">${count(d.n)}, the latest first</span>` : null}<span class="grow"></span>
      <input type="search" placeholder="session or agent" aria-label="filter by session or agent" value=${typed} onInput=${(event) => type(event.target.value)} />
      <span class="seg" role="group" aria-label="status">${[["", "all"], ["active", "active"], ["completed", "completed"]].map(([value, text]) => html`<button aria-pressed=${status === value} onClick=${() => setStatus(value)}>${text}</button>`)}</span></h2>
    ${!d || d.error ? html`<${Missing} data=${d} />` : html`<${Table} empty="No session fits." rows=${rows} columns=${[
      ["session", "id", { show: (s) => html`<a href=${to.page("/conversation", { session: s.id })}><bdi>${short(s.id, 40)}</bdi></a>` }],
      ["begun by", "agent", { show: (s) => (s.agent === "unknown" ? html`<span class="muted">unknown</span>` : html`<${Agent} id=${s.agent} />`) }],
      ["began", "created", { show: (s) => html`<span class="muted">${day(s.created)} ${clock(s.created, true)}</span>` }],
      ["pattern", "pattern", { class: "muted", show: (s) => short(s.pattern) }],
      ["status", "status", { show: (s) => html`<span class=${s.status === "active" ? "up" : "muted"}>${safe(s.status)}</span>${s.lives_in === "log" ? "" : html`<span class="muted">, in the ${s.lives_in}</span>`}` }],
    ]} />${button}`}</section>`;
}

export function AgentPage({ id, limits, go, open }) {
  const d = useData("agent", { ...limits, id });
  if (!d || d.error) return html`<${Missing} data=${d} />`;
  return html`<div class="grid"><h1 class="name"><${Dot} id=${id} role=${d.role} /> <bdi>${safe(id)}</bdi> <span class="muted">${d.role ? safe(d.role) : "no role"}</span></h1>
    <div class="grid kpis four">
      <div class="card kpi"><span>Said</span><b>${count(d.messages)}</b><em>to ${plural(d.peers.filter((p) => p.to).length, "agent")}</em></div>
      <div class="card kpi"><span>Was asked</span><b>${count(d.asked_n)}</b><em>by ${plural(d.peers.filter((p) => p.from).length, "agent")}</em></div>
      <div class="card kpi"><span>Answered</span><b>${percent(share(d.answered, d.asked_n))}</b><em>${count(d.answered)} of ${count(d.asked_n)}</em></div>
      <a class="card kpi" href=${to.page("/pending", { ...limits, agent: id })}><span>Waits for it</span><b class=${d.pending ? "down" : ""}>${count(d.pending)}</b><em>see them by age</em></a>
    </div>
    <${Figure} title="When it spoke" columns=${VOLUME_COLUMNS} rows=${() => volumeTable(d)} tools=${html`<a class="btn small" href=${to.page("/timeline", { ...limits, agent: id })}>in the timeline</a>`}><${Volume} d=${d} height=${170} pick=${(from, end) => go("/timeline", { from, to: end, agent: id })} /></${Figure}>
    <div class="grid even">
      <section class="card" aria-label="Latest entries"><h2>Latest <span class="muted">by it, to it, or with it</span></h2><${Table} empty="Nothing in this time." rows=${d.latest} columns=${[
        ["time", "t", { show: (r) => html`<span class="muted">${day(r.t)} ${clock(r.t, true)}</span>` }],
        ["from, to", "from", { show: (r) => html`<${Speech} from=${r.from} to=${r.to} limits=${limits} />` }],
        ["event", "type", { class: "muted", show: (r) => short(r.type, 26) }],
        ["conversation", "conversation", { show: (r) => html`<a href=${to.conversation(r.conversation, r.id)}>${short(r.conversation, 22)}</a>` }],
        ["", null, { fixed: true, n: true, show: (r) => html`<button class="btn small" onClick=${() => open(r.id)}>read</button>` }],
      ]} /></section>
      <section class="card" aria-label="Talks with"><h2>Talks with</h2><${Table} empty="Nobody in this time." rows=${d.peers} columns=${[
        ["agent", "id", { show: (p) => html`<${Agent} id=${p.id} limits=${limits} />` }],
        ["to it", "to", { n: true }],
        ["from it", "from", { n: true }],
        ["answers", (p) => share(p.answered, p.asked), { n: true, show: (p) => (p.asked ? percent(p.answered / p.asked) : "") }],
      ]} /></section>
    </div></div>`;
}
