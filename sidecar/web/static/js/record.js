// A record beside the page: what it says, and where in the log it stands.

import { html, useEffect, useRef, useState } from "../vendor/standalone.module.js";
import { ask } from "./data.js";
import { duration, moment, plural, safe, short, to } from "./text.js";

export function Record({ id, close }) {
  const [d, set] = useState(null);
  const box = useRef();
  useEffect(() => {
    let on = true;
    set(null);
    ask("entry", { id }).then((found) => on && set(found), (error) => on && set({ error: error.message }));
    return () => (on = false);
  }, [id]);
  useEffect(() => {
    const before = document.activeElement;
    box.current?.focus();
    const key = (event) => event.key === "Escape" && close();
    addEventListener("keydown", key);
    return () => {
      removeEventListener("keydown", key);
      before?.focus?.({ preventScroll: true });
    };
  }, []);
  let body = d?.raw;
  try {
    if (!d.cut) body = JSON.stringify(JSON.parse(d.raw), null, 2);
  } catch {
    // Not strict JSON: shown as it stands.
  }
  return html`<aside class="side" aria-label="Record" tabindex="-1" ref=${box}>
    <div class="sidehead"><b title=${safe(id)}>${short(id, 44)}</b><span class="grow"></span><button class="btn small" onClick=${close}>close</button></div>
    ${!d ? html`<p class="muted" role="status">reading the log…</p>` : d.error ? html`<p role="alert">${safe(d.error)}</p>` : html`
    <dl class="kv">
      <dt>time</dt><dd>${moment(d.t)}</dd>
      <dt>event</dt><dd>${safe(d.type)}</dd>
      <dt>from</dt><dd>${d.author ? html`<a href=${to.agent(d.author)}><bdi>${short(d.author, 40)}</bdi></a>` : "–"}</dd>
      <dt>to</dt><dd>${d.to_agents.length ? d.to_agents.slice(0, 12).map((one, i) => html`${i ? ", " : ""}<a href=${to.agent(one)}><bdi>${short(one, 40)}</bdi></a>`) : "–"}</dd>
      ${d.waits ? html`<dt>answer</dt><dd class="down">none yet</dd>` : d.answered_after != null ? html`<dt>answer</dt><dd>after ${duration(d.answered_after)}</dd>` : null}
      <dt>conversation</dt><dd><a href=${to.conversation(d.conversation, d.id)}>${short(d.conversation, 60)}</a></dd>
      ${d.corr ? html`<dt>correlation</dt><dd>${short(d.corr, 60)}</dd>` : null}
      <dt>in the log</dt><dd>${safe(d.file)}, line ${d.line}, byte ${d.offset.toLocaleString("en")}</dd>
    </dl>
    ${d.gone
      ? html`<p class="verdict bad" role="alert">${safe(d.why)}</p>`
      : html`<p class="verdict">✓ ${plural(d.bytes, "byte")} read from the log just now; <b>checksum holds</b>: they are the ones that were indexed.</p><pre tabindex="0">${safe(body)}</pre>${d.cut ? html`<p class="muted">Its beginning; the rest: <code>sidecar show</code>.</p>` : null}`}`}
  </aside>`;
}
