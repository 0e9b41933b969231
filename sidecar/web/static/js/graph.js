// Who talks to whom: agents as circles, what they said to each other as lines, over a window of time.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/standalone.module.js";
import { useData } from "./data.js";
import { Agent, Figure, Missing, Table, axis, colour, communityTint, note, tint, useCanvas } from "./look.js";
import { count, duration, percent, plural, safe, share, short, span } from "./text.js";

const HEIGHT = 640;
const WEAK = 0.6; // answered share below which an edge is red
const ENOUGH = 5; // requests that make a share worth showing
const MOST_LINES = 1500;
const STRONGEST = 12; // edges of each agent that are drawn

/** Places for the agents: from fixed beginnings and in a fixed number of steps, so that the same graph looks the same. */
function layout(d) {
  const nodes = d.nodes.map((node, i) => ({ ...node, x: Math.cos(i * 2.4) * (60 + i * 7), y: Math.sin(i * 2.4) * (60 + i * 7) }));
  const known = new Map(nodes.map((node) => [node.id, node]));
  const drawn = new Map();
  const links = [];
  for (const edge of d.edges) {
    if (edge.a === edge.b || !known.has(edge.a) || !known.has(edge.b) || links.length >= MOST_LINES) continue;
    const [a, b] = [drawn.get(edge.a) || 0, drawn.get(edge.b) || 0];
    if (a >= STRONGEST && b >= STRONGEST) continue;
    drawn.set(edge.a, a + 1);
    drawn.set(edge.b, b + 1);
    links.push({ ...edge, source: edge.a, target: edge.b });
  }
  const most = Math.max(1, ...links.map((link) => link.n));
  const top = Math.max(1, ...nodes.map((node) => node.out + node.in));
  for (const node of nodes) node.r = 7 + 17 * Math.sqrt((node.out + node.in) / top);
  const force = d3
    .forceSimulation(nodes)
    .force("link", d3.forceLink(links).id((node) => node.id).distance(120).strength((link) => 0.04 + 0.3 * (link.n / most)))
    .force("charge", d3.forceManyBody().strength(nodes.length > 80 ? -220 : -620))
    .force("x", d3.forceX().strength(0.07))
    .force("y", d3.forceY().strength(0.12))
    .force("collide", d3.forceCollide((node) => node.r + 16))
    .stop();
  for (let i = 0; i < 260; i++) force.tick();
  return { nodes, links, most };
}

function fitted(model, w, h) {
  const pad = w < 600 ? 34 : 60;
  const [xs, ys] = [model.nodes.map((n) => n.x), model.nodes.map((n) => n.y)];
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = Math.min((w - 2 * pad) / Math.max(1, x1 - x0), (h - 2 * pad) / Math.max(1, y1 - y0), 1.6);
  return { X: (n) => w / 2 + (n.x - (x0 + x1) / 2) * scale, Y: (n) => h / 2 + (n.y - (y0 + y1) / 2) * scale - 6 };
}

export function Graph({ limits, open }) {
  const whole = useData("graph", limits);
  const [part, setPart] = useState(null);
  const [by, setBy] = useState("role");
  const [chosen, choose] = useState(null);
  const [playing, play] = useState(false);
  const inPart = useData("graph", part ? { from: part[0], to: part[1] } : limits, { shows: false });
  const d = inPart && !inPart.error ? inPart : whole;
  const ready = d && !d.error && whole && !whole.error;
  // The places are those of the whole span: agents stay where they are while the window moves.
  const places = useMemo(() => (whole && !whole.error ? layout(whole) : null), [whole]);
  const model = useMemo(() => {
    if (!ready) return null;
    const live = new Map(d.nodes.map((node) => [node.id, node]));
    const nodes = places.nodes.map((node) => ({ ...node, ...(live.get(node.id) || { out: 0, in: 0, asked: 0, answered: 0, idle: true }) }));
    const known = new Map(nodes.map((node) => [node.id, node]));
    const edges = new Map(d.edges.map((edge) => [JSON.stringify([edge.a, edge.b]), edge]));
    const links = places.links
      .map((link) => ({ ...(edges.get(JSON.stringify([link.a, link.b])) || { ...link, n: 0 }), source: known.get(link.a), target: known.get(link.b) }))
      .filter((link) => link.n);
    return { nodes, links, most: Math.max(1, ...links.map((link) => link.n)) };
  }, [places, d]);
  const hasRoles = ready && whole.nodes.some((node) => node.role);
  const hasCommunities = ready && whole.nodes.some((node) => node.community != null);
  useEffect(() => {
    // Where there are no roles, colours say who belongs together.
    if (ready && !hasRoles && by === "role" && hasCommunities) setBy("community");
  }, [ready, hasRoles]);
  const shade = (node, c) => {
    if (by === "answers") return node.asked ? (node.answered / node.asked < WEAK ? c.bad : node.answered / node.asked < 0.85 ? c.warn : c.good) : c.faint;
    if (by === "community" && node.community != null) return c[communityTint(node.community)];
    return c[tint(node.id, node.role)];
  };
  const view = useRef(null);
  const ref = useCanvas(
    (g, w, h, c) => {
      if (!model?.nodes.length) return;
      const { X, Y } = (view.current = fitted(model, w, h));
      const touches = (link) => !chosen || link.source.id === chosen || link.target.id === chosen;
      for (const link of model.links) {
        const weak = link.asked >= ENOUGH && link.answered / link.asked < WEAK;
        g.strokeStyle = weak ? c.bad : c.edge;
        g.globalAlpha = touches(link) ? (weak ? 0.85 : chosen ? 0.75 : 0.14 + 0.5 * (link.n / model.most)) : 0.04;
        g.lineWidth = 0.8 + 5.5 * (link.n / model.most);
        const [x0, y0, x1, y1] = [X(link.source), Y(link.source), X(link.target), Y(link.target)];
        g.beginPath();
        g.moveTo(x0, y0);
        g.quadraticCurveTo((x0 + x1) / 2 + (y1 - y0) * 0.1, (y0 + y1) / 2 - (x1 - x0) * 0.1, x1, y1);
        g.stroke();
      }
      const near = new Set(chosen ? model.links.filter(touches).flatMap((link) => [link.source.id, link.target.id]) : []);
      const names = model.nodes.length < 70;
      for (const node of model.nodes) {
        g.globalAlpha = node.idle ? 0.2 : !chosen || node.id === chosen || near.has(node.id) ? 1 : 0.22;
        g.fillStyle = shade(node, c);
        g.beginPath();
        g.arc(X(node), Y(node), node.r, 0, 7);
        g.fill();
        g.lineWidth = 2.5;
        g.strokeStyle = node.id === chosen ? c.text : c.panel;
        g.stroke();
        if (node.asked >= ENOUGH && node.answered / node.asked < 0.8) {
          g.strokeStyle = c.bad;
          g.lineWidth = 3;
          g.beginPath();
          g.arc(X(node), Y(node), node.r + 4, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * (1 - node.answered / node.asked));
          g.stroke();
        }
        if (!names && node.id !== chosen && !near.has(node.id) && node.r < 15) continue;
        g.font = (node.id === chosen ? "600 " : "") + "12px system-ui";
        g.textAlign = "center";
        g.lineWidth = 3.5;
        g.lineJoin = "round";
        g.strokeStyle = c.panel;
        g.fillStyle = c.text;
        g.strokeText(short(node.id, 20), X(node), Y(node) + node.r + 14);
        g.fillText(short(node.id, 20), X(node), Y(node) + node.r + 14);
      }
      g.globalAlpha = 1;
    },
    [model, chosen, by],
    HEIGHT,
  );
  const pick = (event) => {
    if (!view.current) return null;
    const box = ref.current.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    return model.nodes.find((node) => (view.current.X(node) - x) ** 2 + (view.current.Y(node) - y) ** 2 < (node.r + 4) ** 2);
  };
  const key = (event) => {
    const way = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") choose(null);
    if (!way || !model) return;
    event.preventDefault();
    const place = model.nodes.findIndex((node) => node.id === chosen);
    choose(model.nodes[(place + way + model.nodes.length) % model.nodes.length].id);
  };
  useEffect(() => {
    if (!playing || !ready) return;
    const wide = (whole.to - whole.from) / 12;
    let begin = part ? part[0] : whole.from - wide / 3;
    const timer = setInterval(() => {
      begin += wide / 3;
      if (begin + wide > whole.to) return play(false);
      setPart([begin, begin + wide]);
    }, 900);
    return () => clearInterval(timer);
  }, [playing]);
  if (!ready) return html`<${Missing} data=${whole} />`;
  const node = chosen && d.nodes.find((one) => one.id === chosen);
  const weakest = d.edges.filter((edge) => edge.asked >= ENOUGH).sort((a, b) => a.answered / a.asked - b.answered / b.asked).slice(0, 9);
  const brokers = d.nodes.filter((one) => one.betweenness).sort((a, b) => b.betweenness - a.betweenness).slice(0, 8);
  const columns = [["from", "a"], ["to", "b"], ["messages", "n", { n: true }], ["asked", "asked", { n: true }], ["answered", (e) => share(e.answered, e.asked), { n: true, show: (e) => (e.asked ? percent(e.answered / e.asked) : "–") }], ["median", "p50", { n: true, show: (e) => duration(e.p50) }], ["95 %", "p95", { n: true, show: (e) => duration(e.p95) }]];
  const choices = ["role", "community", "answers"].filter((one) => one !== "community" || hasCommunities);
  return html`<div class="graphwrap">
    <${Figure} title="Who talks to whom" note=${`${plural(d.nodes.length, "agent")}, ${plural(d.edges.reduce((n, e) => n + e.n, 0), "message")}`} columns=${columns} rows=${() => d.edges}
      tools=${html`<span class="seg" role="group" aria-label="colour by">${choices.map((one) => html`<button aria-pressed=${by === one} onClick=${() => setBy(one)}>${one === "role" && !hasRoles ? "name" : one}</button>`)}</span>`}>
      ${d.nodes.length ? null : html`<p class="muted empty">Nobody was addressed by name in this time.</p>`}
      <canvas ref=${ref} tabindex="0" role="img" aria-label=${`Graph of ${plural(d.nodes.length, "agent")}${chosen ? ", chosen: " + safe(chosen) : ""}. Arrow keys choose an agent.`} onKeyDown=${key} onClick=${(event) => choose(pick(event)?.id || null)}
        onMouseMove=${(event) => { const one = pick(event); note(event, one ? html`<b>${short(one.id, 40)}</b><div>${one.role ? short(one.role) + ", " : ""}said ${count(one.out)}, was told ${count(one.in)}; answered ${one.answered} of ${one.asked}</div>` : null); }} onMouseLeave=${(event) => note(event, null)}></canvas>
      <div class="brush"><button class="btn" aria-label=${playing ? "stop" : "play"} onClick=${() => play(!playing)}>${playing ? "❚❚" : "▶"}</button><${Brush} d=${whole} part=${part} set=${setPart} /><span class="muted window">${part ? span(part[0], part[1]) : "whole range"}</span></div>
    </${Figure}>
    <div class="grid top">${node
      ? html`<${Chosen} node=${node} d=${d} limits=${limits} shade=${colour(node.id, node.role)} />`
      : html`${brokers.length ? html`<section class="card" aria-label="Brokers"><h2>Brokers <span class="muted">betweenness</span></h2><table><tbody>${brokers.map((one) => html`<tr><td><${Agent} ...${one} limits=${limits} /></td><td class="n">${one.betweenness.toFixed(3)}</td><td><span class="meter"><i style=${{ width: (one.betweenness / brokers[0].betweenness) * 100 + "%", background: colour(one.id, one.role) }}></i></span></td></tr>`)}</tbody></table></section>` : null}
        <section class="card" aria-label="Weakest links"><h2>Weakest links <span class="muted">${ENOUGH} requests or more</span></h2>${weakest.length ? html`<table><tbody>${weakest.map((e) => html`<tr><td>${short(e.a, 18)} → ${short(e.b, 18)}</td><td class="n">${e.answered}/${e.asked}</td><td class=${"n " + (e.answered / e.asked < WEAK ? "down" : "")}>${percent(e.answered / e.asked)}</td></tr>`)}</tbody></table>` : html`<p class="muted empty">No pair has that many.</p>`}</section>`}</div>
  </div>`;
}

function Chosen({ node, d, limits }) {
  const peers = new Map();
  for (const edge of d.edges) {
    if (edge.a !== node.id && edge.b !== node.id) continue;
    const other = edge.a === node.id ? edge.b : edge.a;
    const one = peers.get(other) || { id: other, to: 0, from: 0, asked: 0, answered: 0, p50: null };
    if (edge.a === node.id) Object.assign(one, { to: one.to + edge.n, asked: edge.asked, answered: edge.answered, p50: edge.p50 });
    else one.from += edge.n;
    peers.set(other, one);
  }
  const rows = [...peers.values()].sort((a, b) => b.to + b.from - a.to - a.from);
  return html`<section class="card" aria-label="Chosen agent"><h2><${Agent} ...${node} limits=${limits} /></h2>
    <dl class="kv"><dt>role</dt><dd>${node.role ? safe(node.role) : "–"}</dd><dt>said, was told</dt><dd>${count(node.out)}, ${count(node.in)}</dd><dt>answered</dt><dd>${count(node.answered)} of ${count(node.asked)} (${percent(share(node.answered, node.asked))})</dd><dt>betweenness</dt><dd>${node.betweenness}</dd></dl>
    <${Table} rows=${rows} columns=${[["with", "id", { show: (p) => short(p.id, 20) }], ["to", "to", { n: true }], ["from", "from", { n: true }], ["answered", (p) => share(p.answered, p.asked), { n: true, show: (p) => (p.asked ? percent(p.answered / p.asked) : "") }], ["median", "p50", { n: true, show: (p) => duration(p.p50) }]]} /></section>`;
}

/** The volume of the whole span; dragged, it chooses the window of time that the graph shows. */
function Brush({ d, part, set }) {
  const begin = useRef(null);
  const start = d.start ?? d.from;
  const end = start + d.said.length * d.bucket;
  const ref = useCanvas(
    (g, w, h, c) => {
      const most = Math.max(1, ...d.said);
      const bar = w / d.said.length;
      g.fillStyle = c.accent;
      d.said.forEach((n, i) => {
        const t = start + i * d.bucket;
        g.globalAlpha = part && (t + d.bucket < part[0] || t > part[1]) ? 0.25 : 0.85;
        if (n) g.fillRect(i * bar, h - 18 - Math.max(1, (n / most) * (h - 22)), Math.max(1, bar - 1), Math.max(1, (n / most) * (h - 22)));
      });
      g.globalAlpha = 1;
      axis(g, 0, w, start, end, h - 18, c);
    },
    [d, part],
    64,
  );
  const at = (event) => {
    const box = ref.current.getBoundingClientRect();
    return start + Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * (end - start);
  };
  const choose = (a, b) => set(Math.abs(b - a) < (end - start) / 100 ? null : [Math.max(d.from, Math.min(a, b)), Math.min(d.to, Math.max(a, b))]);
  const key = (event) => {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") set(null);
    if (!way) return;
    event.preventDefault();
    const wide = part ? part[1] - part[0] : (d.to - d.from) / 6;
    const from = Math.min(d.to - wide, Math.max(d.from, (part ? part[0] : d.from - wide / 2) + (way * wide) / 2));
    set([from, from + wide]);
  };
  return html`<div class="fill"><canvas ref=${ref} tabindex="0" role="img" aria-label="Time window: drag over it, or move it with the arrow keys" onKeyDown=${key} onMouseDown=${(event) => (begin.current = at(event))} onMouseUp=${(event) => { if (begin.current != null) choose(begin.current, at(event)); begin.current = null; }}></canvas></div>`;
}
