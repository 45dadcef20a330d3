// Numbers, times and names as people read them. Pure: no DOM, no clock of its own, tested by
// tests/web/format.test.mjs. Anything that is not a number is shown as a dash.

export const NONE = "–";

const SI = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"];
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

// 12_345_678 -> ["12.3", "M"]: three significant digits.
export function scaled(value) {
  if (!isNumber(value)) return [NONE, ""];
  let step = 0;
  let rest = Math.abs(value);
  // 999.5 would be rounded to "1000": it belongs to the next prefix.
  while (rest >= 999.5 && step < SI.length - 1) {
    rest /= 1000;
    step += 1;
  }
  if (rest === 0) return ["0", ""];
  const digits = rest >= 99.95 ? 0 : rest >= 9.995 ? 1 : 2;
  return [(value < 0 ? "-" : "") + rest.toFixed(digits), SI[step]];
}

// Hashes per second, as a number and a unit, which are shown in different sizes.
export function hashrateParts(value) {
  const [number, prefix] = scaled(value);
  return [number, number === NONE ? "" : `${prefix}H/s`];
}

export function hashrate(value) {
  const [number, unit] = hashrateParts(value);
  return unit ? `${number} ${unit}` : number;
}

// Small numbers in full, since miners are configured with them; large ones like 12.3 G.
export function difficulty(value) {
  if (!isNumber(value)) return NONE;
  if (value < 1) return value === 0 ? "0" : String(Number(value.toPrecision(3)));
  if (value < 1e6) return whole.format(value);
  const [number, prefix] = scaled(value);
  return `${number} ${prefix}`;
}

export function count(value) {
  return isNumber(value) ? whole.format(value) : NONE;
}

// A percentage. Never "0 %" for something, never "100 %" for less than all.
export function percent(part, all) {
  if (!isNumber(part) || !isNumber(all) || all <= 0) return NONE;
  const share = (part / all) * 100;
  if (share === 0) return "0 %";
  if (share < 0.01) return "< 0.01 %";
  if (share < 100 && share > 99.99) return "> 99.99 %";
  const digits = share >= 99.9 && share < 100 ? 2 : share >= 10 ? 1 : 2;
  return `${Number(share.toFixed(digits))} %`;
}

// Satoshis as bitcoin, always with eight decimals, so that columns line up.
export function btc(sats) {
  if (!Number.isSafeInteger(sats)) return NONE;
  const digits = String(Math.abs(sats)).padStart(9, "0");
  return `${sats < 0 ? "-" : ""}${digits.slice(0, -8)}.${digits.slice(-8)}`;
}

// An amount for a sentence: sats for small amounts, bitcoin from a thousandth on.
export function amount(sats) {
  if (!Number.isSafeInteger(sats)) return NONE;
  return Math.abs(sats) < 100_000 ? `${whole.format(sats)} sats` : `${btc(sats)} BTC`;
}

// The two largest units: "3 d 4 h", "12 min 5 s", "42 s", "340 ms".
export function duration(seconds) {
  if (!isNumber(seconds)) return NONE;
  const s = Math.max(0, seconds);
  if (s > 0 && s < 1) return `${Math.max(1, Math.round(s * 1000))} ms`;
  if (s < 60) return `${Math.floor(s)} s`;
  const pair = (big, bigUnit, small, smallUnit) => {
    const rest = Math.floor((s % big) / small);
    return `${Math.floor(s / big)} ${bigUnit}${rest ? ` ${rest} ${smallUnit}` : ""}`;
  };
  if (s < 3600) return pair(60, "min", 1, "s");
  if (s < 86_400) return pair(3600, "h", 60, "min");
  return pair(86_400, "d", 3600, "h");
}

export function ago(seconds) {
  if (!isNumber(seconds)) return NONE;
  return seconds < 1 ? "just now" : `${duration(seconds)} ago`;
}

export function milliseconds(seconds) {
  if (!isNumber(seconds)) return NONE;
  const ms = seconds * 1000;
  if (ms >= 10_000) return duration(seconds);
  return `${ms < 10 ? Number(ms.toFixed(1)) : Math.round(ms)} ms`;
}

// Local time, with the day only if it is not today.
export function moment(unixSeconds, now = Date.now() / 1000) {
  if (!isNumber(unixSeconds)) return NONE;
  const date = new Date(unixSeconds * 1000);
  const today = new Date(now * 1000).toDateString() === date.toDateString();
  const time = { hour: "2-digit", minute: "2-digit" };
  const year = now - unixSeconds > 300 * 86_400 ? { year: "numeric" } : {};
  const day = today ? {} : { day: "numeric", month: "short", ...year };
  return new Intl.DateTimeFormat(undefined, { ...day, ...time }).format(date);
}

// The same to the day, if it is not today.
export function day(unixSeconds, now = Date.now() / 1000) {
  if (!isNumber(unixSeconds)) return NONE;
  const date = new Date(unixSeconds * 1000);
  if (new Date(now * 1000).toDateString() === date.toDateString()) return moment(unixSeconds, now);
  const year = now - unixSeconds > 300 * 86_400 ? { year: "numeric" } : {};
  return new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", ...year }).format(
    date,
  );
}

export function fullMoment(unixSeconds) {
  if (!isNumber(unixSeconds)) return NONE;
  const style = { dateStyle: "full", timeStyle: "long" };
  return new Intl.DateTimeFormat(undefined, style).format(new Date(unixSeconds * 1000));
}

// Weight units; a block has four million.
export function weight(units) {
  if (!isNumber(units)) return NONE;
  return units < 10_000 ? `${whole.format(units)} WU` : `${(units / 1e6).toFixed(2)} MWU`;
}

// Long hashes and addresses by both ends; the whole text belongs in the title and the clipboard.
export function ends(text, first = 8, last = 8) {
  const string = String(text ?? "");
  if (!string) return NONE;
  return string.length <= first + last + 1
    ? string
    : `${string.slice(0, first)}…${string.slice(-last)}`;
}

// A machine-readable word made readable: "low_difficulty" -> "low difficulty".
export function words(text) {
  return String(text ?? "")
    .replaceAll("_", " ")
    .replaceAll("-", " ");
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
