// Numbers, times and names as text. Whatever agents wrote goes through `safe` before it is shown.

const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\u115f\u1160\u2800\u3164\uffa0]/gu;
const JOINER = "\u200d";
const NAMES = { 0: "NUL", 7: "BEL", 8: "BS", 13: "CR", 27: "ESC", 127: "DEL" };

/** A text in which characters that are invisible, or that turn the direction, are visible. */
export function safe(text) {
  return String(text ?? "").replace(HIDDEN, (one) => {
    if (one === "\n" || one === "\t" || one === JOINER) return one;
    const code = one.codePointAt(0);
    if (NAMES[code]) return `\u2039${NAMES[code]}\u203a`;
    return `\u2039U+${code.toString(16).toUpperCase().padStart(4, "0")}\u203a`;
  });
}

/** A name, on one line; shortened in its middle, so that what tells names apart at their ends stays. */
export function short(text, length = 24) {
  const all = [...safe(text).replace(/\s+/g, " ")];
  if (all.length <= length) return all.join("");
  const begin = Math.ceil((length - 1) * 0.6);
  return all.slice(0, begin).join("") + "\u2026" + all.slice(all.length - (length - 1 - begin)).join("");
}

export const count = (n) =>
  n == null ? "–" : n >= 1e6 ? (n / 1e6).toFixed(1) + "M" : n >= 1e4 ? (n / 1e3).toFixed(1) + "k" : n.toLocaleString("en");

export function duration(s) {
  if (s == null) return "–";
  if (s < 0) return "−" + duration(-s);
  if (s < 1) return Math.round(s * 1000) + " ms";
  if (s < 90) return s.toFixed(s < 10 ? 1 : 0) + " s";
  if (s < 5400) return Math.round(s / 60) + " min";
  if (s < 172800) return (s / 3600).toFixed(1) + " h";
  return Math.round(s / 86400) + " d";
}

export const percent = (x) => (x == null || isNaN(x) ? "–" : (x * 100).toFixed(x > 0 && x < 1 && (x > 0.995 || x < 0.1) ? 1 : 0) + " %");
export const share = (part, whole) => (whole ? part / whole : null);
export const plural = (n, one, many = one + "s") => `${count(n)} ${n === 1 ? one : many}`;

const DAY = new Intl.DateTimeFormat("en", { month: "short", day: "numeric", timeZone: "UTC" });
const within = (t) => Math.min(Math.max(t, 0), 253402300799) * 1000;

export const day = (t) => DAY.format(new Date(within(t)));
export const clock = (t, seconds) => new Date(within(t)).toISOString().slice(11, seconds ? 19 : 16);
export const moment = (t) => new Date(within(t)).toISOString().replace("T", " ").replace("Z", "");
export const span = (a, b) =>
  b - a > 5 * 86400 ? `${day(a)} – ${day(b)}` : day(a) === day(b) ? `${day(a)} ${clock(a)} – ${clock(b)}` : `${day(a)} ${clock(a)} – ${day(b)} ${clock(b)}`;

const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";
/** How likely something is. Below 10^-12 no history can tell. */
export function odds(p) {
  if (p <= 1.001e-12) return "Never before in its history.";
  if (p > 1e-4) return `By chance: 1 in ${Math.round(1 / p).toLocaleString("en")}.`;
  return "By chance: 1 in 10" + [...String(Math.round(-Math.log10(p)))].map((digit) => SUPERSCRIPT[digit]).join("") + ".";
}

// ---- addresses

const query = (values) => {
  const params = new URLSearchParams(Object.entries(values).filter(([, value]) => value != null && value !== ""));
  return params.size ? "?" + params : "";
};
export const to = {
  conversation: (id, entry) => "/conversation" + query({ id }) + (entry ? "#" + encodeURIComponent(entry) : ""),
  agent: (id, limits = {}) => "/agent/" + encodeURIComponent(id) + query(limits),
  page: (path, values) => path + query(values),
};
