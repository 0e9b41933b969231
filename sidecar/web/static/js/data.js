// What is asked of the server, and what is new there.

import { useEffect, useState } from "../vendor/standalone.module.js";

/** The roles of agents, as far as an answer told them: an agent has one colour, whatever page names it. */
const roles = new Map();
export const roleOf = (id) => roles.get(id);
const learn = (agents) => agents?.forEach?.((one) => one.role && roles.set(one.id, one.role));

/** The answer of a route. Throws an Error whose message says what is wrong and what to do. */
export async function ask(route, params = {}) {
  const given = Object.entries(params).filter(([, value]) => value != null && value !== "");
  const response = await fetch(`/api/${route}?${new URLSearchParams(given)}`, { headers: { Accept: "application/json" } });
  if (response.status === 401) location.assign("/login");
  const answer = await response.json();
  learn(answer.agents);
  if (!response.ok) throw new Error(answer.error + (answer.hint ? ` (${answer.hint})` : ""));
  return answer;
}

// ---- live entries: one stream for the whole page

const watchers = new Set();
const state = { on: false, rate: 0, total: 0, last: [] };

/** Called with the state after each message of the stream; returns what ends that. */
export function watch(listener) {
  watchers.add(listener);
  listener({ ...state });
  return () => watchers.delete(listener);
}

export function connect() {
  const source = new EventSource("/api/live");
  let counts = [];
  const tell = () => watchers.forEach((listener) => listener({ ...state }));
  source.onmessage = (message) => {
    const { n, last } = JSON.parse(message.data);
    counts = [...counts.slice(-9), n];
    state.on = true;
    state.rate = counts.reduce((sum, one) => sum + one, 0) / (counts.length * 0.5);
    state.total += n;
    if (last.length) state.last = [...last.reverse(), ...state.last].slice(0, 12);
    tell();
  };
  source.onerror = () => {
    state.on = false;
    state.rate = 0;
    tell();
  };
  addEventListener("pagehide", () => source.close());
}

export function useLive() {
  const [live, set] = useState({ ...state });
  useEffect(() => watch(set), []);
  return live;
}

// ---- answers

const REFRESH = 5000;
const UNREADY = 3000; // parts of an answer may still be made: it is asked for again
let report = () => {};
/** Whoever shows the span of the page is told of that of each answer. */
export const onSpan = (listener) => (report = listener);
export const showSpan = (d) => report(d);

/** The answer of a route: null while it is awaited, then the answer or `{error}`. Asked again while entries come,
 *  unless the span has an end. The last answer stays until the next is there. */
export function useData(route, params, { shows = true } = {}) {
  const [held, hold] = useState({ key: null, data: null });
  const key = route + JSON.stringify(params);
  useEffect(() => {
    let on = true;
    let busy = false;
    let asked = Date.now();
    let seen = null;
    const load = async () => {
      busy = true;
      let data;
      try {
        data = await ask(route, params);
      } catch (error) {
        data = { error: error.message };
      }
      busy = false;
      asked = Date.now();
      if (!on) return;
      hold({ key, data });
      if (data.unready) setTimeout(() => on && !busy && load(), UNREADY);
      if (shows && data.to) report(data);
    };
    load();
    const end = watch((live) => {
      const more = seen !== null && live.total > seen;
      if (seen === null) seen = live.total;
      if (params.to || busy || !more || Date.now() - asked < REFRESH) return;
      seen = live.total;
      load();
    });
    return () => {
      on = false;
      end();
    };
  }, [key]);
  return held.key === key ? held.data : null;
}
