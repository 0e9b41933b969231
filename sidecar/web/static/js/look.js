// Colours, and the drawing that pages share: canvases with a table behind them, axes, the note under the pointer.

import { html, useEffect, useRef, useState } from "../vendor/standalone.module.js";
import { roleOf } from "./data.js";
import { clock, day, safe, short, to } from "./text.js";

// ---- colours: an agent has that of its role; without roles, that of the beginning of its name

const USUAL = { coordinator: 4, lead: 4, leader: 4, planner: 0, coder: 1, developer: 1, reviewer: 2, tester: 3, researcher: 5, ops: 6, phase_coordinator: 7, user: 8, assistant: 0 };
const COLOURS = 12;
const given = new Map();

function number(text) {
  let hash = 7;
  for (const one of text) hash = (hash * 31 + one.codePointAt(0)) >>> 0;
  return hash % COLOURS;
}

/** The beginning of a name that says what kind of agent it is: `code` of `code-fay`, `viz` of `agent_viz`. */
export function family(name) {
  const parts = String(name).split(/[-_:./#@\s]+|(?<=[a-z])(?=\d)/i).filter(Boolean);
  return (/^(agent|bot|node|worker)$/i.test(parts[0]) && parts[1] && !/^\d+$/.test(parts[1]) ? parts[1] : parts[0]) || "";
}

function slot(key) {
  if (!given.has(key)) {
    let place = USUAL[key.slice(1)] ?? number(key);
    // No two kinds share a colour while there are free ones.
    const taken = new Set(given.values());
    for (let i = 0; i < COLOURS && taken.has(place); i++) place = (place + 1) % COLOURS;
    given.set(key, place);
  }
  return given.get(key);
}

/** The name of an agent's colour. */
export function tint(id, role) {
  const known = role ?? roleOf(id);
  return "c" + (known ? slot("r" + known) : slot("f" + family(id)));
}
export const roleTint = (role) => "c" + slot("r" + role);
export const communityTint = (community) => "c" + (community % COLOURS);
/** The same as a value for a style. */
export const colour = (id, role) => `var(--${tint(id, role)})`;

/** The colours of the theme, for drawing. */
export function theme() {
  const style = getComputedStyle(document.documentElement);
  const known = {};
  return new Proxy(known, { get: (_, name) => (known[name] ??= style.getPropertyValue("--" + name).trim()) });
}

export const Dot = ({ id, role }) => html`<i class="dot" style=${{ background: colour(id, role) }}></i>`;
export const Agent = ({ id, role, limits, length = 28, plain = false }) =>
  plain
    ? html`<span class="chip" title=${safe(id)}><${Dot} id=${id} role=${role} /><bdi>${short(id, length)}</bdi></span>`
    : html`<a class="chip" href=${to.agent(id, limits)} title=${safe(id)}><${Dot} id=${id} role=${role} /><bdi>${short(id, length)}</bdi></a>`;
export const Speech = ({ from, to: whom, limits }) =>
  html`<span class="speech">${from ? html`<${Agent} id=${from} limits=${limits} />` : html`<span class="muted">nobody named</span>`}<span class="muted"> → </span>${whom.length
    ? whom.slice(0, 3).map((one, i) => html`${i ? ", " : ""}<bdi title=${safe(one)}>${short(one)}</bdi>`)
    : html`<span class="muted">all</span>`}${whom.length > 3 ? html`<span class="muted"> and ${whom.length - 3} more</span>` : null}</span>`;

// ---- canvas

/** A canvas that `draw(context, width, height, theme)` fills, again whenever its size, the theme or `deps` change.
 *  Its attribute `data-drawn` is what `draw` returned: which of its contents are on the screen now. */
export function useCanvas(draw, deps, height) {
  const ref = useRef();
  useEffect(() => {
    const canvas = ref.current;
    if (!canvas) return;
    let frame = 0;
    const go = () => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => {
        const width = canvas.clientWidth;
        const scale = devicePixelRatio || 1;
        canvas.width = width * scale;
        canvas.height = height * scale;
        canvas.style.height = height + "px";
        const g = canvas.getContext("2d");
        g.scale(scale, scale);
        g.direction = "ltr";
        canvas.dataset.drawn = (width && draw(g, width, height, theme())) || "";
      });
    };
    go();
    const size = new ResizeObserver(go);
    size.observe(canvas.parentElement);
    const look = new MutationObserver(go);
    look.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    return () => {
      size.disconnect();
      look.disconnect();
      cancelAnimationFrame(frame);
    };
  }, [...deps, height]);
  return ref;
}

const STEPS = [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000, 604800, 2592000];

/** Lines and times from `left` to `right`, for the moments `begin` to `end`; below `bottom` their names. */
export function axis(g, left, right, begin, end, bottom, c) {
  g.font = "11px system-ui";
  g.textAlign = "center";
  const most = Math.max(2, (right - left) / 95);
  const step = STEPS.find((one) => (end - begin) / one <= most) || 7776000;
  for (let t = Math.ceil(begin / step) * step; t <= end; t += step) {
    const x = left + ((t - begin) / (end - begin)) * (right - left);
    g.fillStyle = c.line;
    g.globalAlpha = 0.55;
    g.fillRect(x, 0, 1, bottom);
    g.globalAlpha = 1;
    g.fillStyle = c.faint;
    const text = step >= 86400 || t % 86400 === 0 ? day(t) : clock(t, step < 60);
    const half = g.measureText(text).width / 2;
    if (x + half <= right + 8) g.fillText(text, Math.max(x, left + half - 30), bottom + 14);
  }
}

/** A picture with a table behind it, for who cannot see the picture or wants the numbers. */
export function Figure({ title, note, tools, rows, columns, open, children }) {
  const [table, set] = useState(false);
  return html`<section class="card" aria-label=${title}>
    <h2>${title} ${note ? html`<span class="muted">${note}</span>` : null}<span class="grow"></span>${tools}
      <button class="btn small" aria-pressed=${table} onClick=${() => set(!table)}>${table ? "show as picture" : "show as table"}</button></h2>
    ${table ? html`<${Table} columns=${columns} rows=${rows()} open=${open} />` : children}
  </section>`;
}

const PER_PAGE = 200;

/** A table whose columns sort it. A column: `[title, key or function, {n: numeric, show: what to show}]`. A row with
 *  an `entry` can be opened. */
export function Table({ columns, rows, open, empty = "There is nothing here." }) {
  const [by, sort] = useState(null);
  const [most, more] = useState(PER_PAGE);
  const value = (column, row) => (typeof column[1] === "function" ? column[1](row) : row[column[1]]);
  let shown = rows;
  if (by) {
    const column = columns[by.place];
    shown = [...rows].sort((a, b) => {
      const [x, y] = [value(column, a), value(column, b)];
      return by.sign * (x == null ? 1 : y == null ? -1 : x < y ? -1 : x > y ? 1 : 0);
    });
  }
  if (!rows.length) return html`<p class="muted empty">${empty}</p>`;
  return html`<div class="scroll"><table>
    <thead><tr>${columns.map(([title, , look = {}], place) => html`<th class=${look.n ? "n" : ""} aria-sort=${by?.place === place ? (by.sign > 0 ? "ascending" : "descending") : "none"}>${look.fixed || !title
      ? title
      : html`<button onClick=${() => sort({ place, sign: by?.place === place ? -by.sign : look.n ? -1 : 1 })}>${title}${by?.place === place ? (by.sign > 0 ? " ▲" : " ▼") : ""}</button>`}</th>`)}</tr></thead>
    <tbody>${shown.slice(0, most).map((row) => html`<tr>${columns.map((column) => {
      const look = column[2] || {};
      const cell = look.show ? look.show(row) : safe(value(column, row) ?? "–");
      return html`<td class=${(look.n ? "n " : "") + (look.class || "")}>${cell}</td>`;
    })}${open && row.entry ? html`<td class="n"><button class="btn small" onClick=${() => open(row.entry)}>read</button></td>` : null}</tr>`)}</tbody>
  </table></div>${shown.length > most ? html`<p><button class="btn" onClick=${() => more(most + PER_PAGE)}>show more of ${shown.length.toLocaleString("en")}</button></p>` : null}`;
}

// ---- the note under the pointer

let show = () => {};
/** Show a note at the pointer of an event, or none. */
export const note = (event, body) => show(body ? { x: event.clientX, y: event.clientY, body } : null);
export function Note() {
  const [shown, set] = useState(null);
  show = set;
  return shown && html`<div class="tip" style=${{ left: Math.max(4, Math.min(shown.x + 14, innerWidth - 320)) + "px", top: Math.min(shown.y + 14, innerHeight - 140) + "px" }}>${shown.body}</div>`;
}

/** What stands in place of an answer that is not there, or null. */
export function Missing({ data, what = "reading the index…" }) {
  if (!data) return html`<div class="spin" role="status">${what}</div>`;
  return html`<div class="spin" role="alert"><b>That did not work.</b><p>${safe(data.error)}</p></div>`;
}
