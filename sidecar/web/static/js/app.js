// The frame: which page is shown, over which time, and the record beside it.

import { html, render, useEffect, useState } from "../vendor/standalone.module.js";
import { Conversation } from "./conversation.js";
import { connect, onSpan, useLive } from "./data.js";
import { Graph } from "./graph.js";
import { AgentPage, Pending, Sessions } from "./lists.js";
import { Note, note } from "./look.js";
import { Overview } from "./overview.js";
import { Record } from "./record.js";
import { Search } from "./search.js";
import { safe, short, span } from "./text.js";
import { Timeline } from "./timeline.js";

const TABS = [["/", "Overview"], ["/timeline", "Timeline"], ["/graph", "Graph"], ["/pending", "Pending"], ["/sessions", "Sessions"], ["/search", "Search"]];
const RANGES = [["1h", "1 h"], ["6h", "6 h"], [null, "24 h"], ["7d", "7 d"], ["30d", "30 d"]];
const OLD = 86400;

const themeOf = () => {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
};

function App() {
  const [address, setAddress] = useState(location.href);
  const [shown, setShown] = useState(null);
  const [theme, setTheme] = useState(themeOf() || (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark"));
  const live = useLive();
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem("theme", theme);
    } catch {
      // Without storage the theme lasts as long as the page.
    }
  }, [theme]);
  useEffect(() => {
    const follow = () => {
      setAddress(location.href);
      note({}, null);
    };
    // Links within the page change its address, and load nothing.
    const click = (event) => {
      const link = event.target.closest?.("a[href^='/']");
      if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || /^\/(static|api|login|metrics)/.test(link.getAttribute("href"))) return;
      event.preventDefault();
      history.pushState(null, "", link.href);
      follow();
      scrollTo(0, 0);
    };
    addEventListener("popstate", follow);
    addEventListener("hashchange", follow);
    document.addEventListener("click", click);
    onSpan((d) => setShown({ from: d.from, to: d.to }));
    connect();
  }, []);

  const url = new URL(address);
  const params = url.searchParams;
  const path = url.pathname;
  const limits = { from: params.get("from") ?? undefined, to: params.get("to") ?? undefined };
  const move = (to, changes) => {
    const next = new URL(to ?? path, location.origin);
    const kept = to == null ? Object.fromEntries(params) : { ...(limits.from && { from: limits.from }), ...(limits.to && { to: limits.to }) };
    for (const [name, value] of Object.entries({ ...kept, ...changes })) if (value != null && value !== "") next.searchParams.set(name, value);
    if (to == null) next.hash = url.hash;
    history.pushState(null, "", next);
    setAddress(location.href);
  };
  const open = (id) => move(null, { record: id });
  const close = () => move(null, { record: null });
  const tab = (to) => {
    const next = new URLSearchParams(Object.entries(limits).filter(([, value]) => value));
    return to + (next.size ? "?" + next : "");
  };
  const agent = path.startsWith("/agent/") ? decodeURIComponent(path.slice(7)) : null;
  const common = { limits, go: move, open };
  const page =
    path === "/timeline" ? html`<${Timeline} ...${common} agent=${params.get("agent")} />`
    : path === "/graph" ? html`<${Graph} ...${common} key=${limits.from + "/" + limits.to} />`
    : path === "/conversation" ? html`<${Conversation} ...${common} id=${params.get("id")} session=${params.get("session")} entry=${decodeURIComponent(url.hash.slice(1))} />`
    : path === "/pending" ? html`<${Pending} ...${common} agent=${params.get("agent") ?? undefined} />`
    : path === "/sessions" ? html`<${Sessions} ...${common} />`
    : path === "/search" ? html`<${Search} ...${common} params=${params} />`
    : agent ? html`<${AgentPage} ...${common} id=${agent} />`
    : html`<${Overview} ...${common} />`;
  const title = agent ? short(agent) : path === "/conversation" ? short(params.get("id") ?? params.get("session") ?? "Conversation", 40) : (TABS.find(([to]) => to === path) || TABS[0])[1];
  useEffect(() => {
    document.title = `${safe(title)} · sidecar`;
  }, [title]);
  const old = shown && Date.now() / 1000 - shown.to > OLD && !limits.to;
  const timed = path !== "/conversation";
  return html`<header>
      <a class="brand" href="/"><img src="/static/icon.svg" alt="" />sidecar</a>
      <nav aria-label="pages">${TABS.map(([to, text]) => html`<a href=${tab(to)} aria-current=${path === to ? "page" : null}>${text}</a>`)}${path === "/conversation" ? html`<a aria-current="page">Conversation</a>` : null}${agent ? html`<a aria-current="page">Agent</a>` : null}</nav>
      <span class="grow"></span>
      ${timed && shown ? html`<span class="muted shown" title=${old ? "the last entry is older than a day: times are counted from it" : ""}>${span(shown.from, shown.to)} UTC${old ? " · as of the last entry" : ""}</span>` : null}
      ${timed ? html`<span class="seg" role="group" aria-label="range">${RANGES.map(([value, text]) => html`<button aria-pressed=${!limits.to && (limits.from ?? null) === value} onClick=${() => move(null, { from: value, to: null, record: null })}>${text}</button>`)}</span>` : null}
      <span class="live" title="entries that are indexed just now"><i class=${"lamp" + (live.on ? " on" : "")}></i><span id="live-rate">${live.on ? live.rate.toFixed(1) + " /s" : "not live"}</span></span>
      <button class="btn small" onClick=${() => setTheme(theme === "dark" ? "light" : "dark")} aria-label="dark or light">◐</button>
    </header>
    <main id="main" tabindex="-1">${page}</main>
    ${params.get("record") ? html`<${Record} id=${params.get("record")} close=${close} key=${params.get("record")} />` : null}<${Note} />`;
}

render(html`<${App} />`, document.getElementById("app"));
