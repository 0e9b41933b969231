// Search: the hits appear as they are found, the latest first.

import { html, useEffect, useRef, useState } from "../vendor/standalone.module.js";
import { showSpan } from "./data.js";
import { Speech } from "./look.js";
import { clock, count, day, plural, safe, short, to } from "./text.js";

const MOST = 200;

export function Search({ limits, params, go, open }) {
  const asked = params.get("q") ?? "";
  const regex = params.get("regex") ?? "";
  const agent = params.get("agent") ?? "";
  const [typed, type] = useState(asked);
  const [state, set] = useState({ hits: [], phase: "idle" });
  const box = useRef();
  useEffect(() => box.current?.focus({ preventScroll: true }), []);
  useEffect(() => {
    type(asked);
    if (!asked) return set({ hits: [], phase: "idle" });
    let hits = [];
    let last = {};
    set({ hits, phase: "searching" });
    const given = new URLSearchParams(Object.entries({ q: asked, regex, agent, limit: MOST, from: limits.from ?? "24h", to: limits.to ?? "" }).filter(([, value]) => value));
    const source = new EventSource("/api/search?" + given);
    let drawing = 0;
    const show = (phase, more = {}) => {
      clearTimeout(drawing);
      drawing = 0;
      set({ hits, phase, ...last, ...more });
    };
    source.onmessage = (message) => {
      hits = [...hits, JSON.parse(message.data)];
      // A burst of hits is drawn at once.
      drawing ||= setTimeout(() => show("searching"), 150);
    };
    source.addEventListener("progress", (message) => show("searching", (last = JSON.parse(message.data))));
    source.addEventListener("end", (message) => {
      source.close();
      const end = JSON.parse(message.data);
      showSpan(end);
      show("done", end);
    });
    source.addEventListener("failed", (message) => {
      source.close();
      show("failed", JSON.parse(message.data));
    });
    source.onerror = () => {
      source.close();
      show("failed", { error: regex ? "The connection ended. Is that a regular expression?" : "The connection ended." });
    };
    return () => {
      clearTimeout(drawing);
      source.close();
    };
  }, [asked, regex, agent, limits.from, limits.to]);
  const submit = (event) => {
    event.preventDefault();
    go("/search", { q: typed, regex, agent });
  };
  const { hits, phase } = state;
  return html`<section class="card" aria-label="Search"><form class="searchform" role="search" onSubmit=${submit}>
      <input ref=${box} type="search" name="q" placeholder="words that somebody said" aria-label="text to look for" value=${typed} onInput=${(event) => type(event.target.value)} />
      <label class="check"><input type="checkbox" checked=${!!regex} onChange=${(event) => go("/search", { q: typed, regex: event.target.checked ? "1" : "", agent })} /> regular expression</label>
      <button class="btn">Search</button></form>
    <p class="muted hint" role="status">${phase === "idle" ? "The logs themselves are read, in the chosen time, the latest first; nothing of their text is in the index." : phase === "failed" ? "" : `${plural(hits.length, "entry", "entries")}${phase === "searching" ? ` so far${state.day ? `, at ${state.day}` : ""}…` : state.complete === false ? `; the search ended after ${count(state.scanned)} entries or ${MOST} hits: choose another time to go on` : " in the chosen time"}`}</p>
    ${phase === "failed" ? html`<p role="alert" class="down">${safe(state.error)}</p>` : null}
    <ol class="hits">${hits.map((hit) => html`<li><div><span class="time">${day(hit.t)} ${clock(hit.t, true)}</span> <${Speech} from=${hit.from} to=${hit.to} limits=${limits} /> <span class="muted">${short(hit.type, 30)} · </span><a class="muted" href=${to.conversation(hit.conversation, hit.id)}>${short(hit.conversation, 34)}</a></div>
      <button class="found" onClick=${() => open(hit.id)} aria-label="read the record"><span class="muted">${safe(hit.place)}: </span>${safe(hit.before)}<mark>${safe(hit.match)}</mark>${safe(hit.after)}</button></li>`)}</ol>
  </section>`;
}
