// Figures as people read them. Sizes are decimal (1 GB = 10^9 bytes), as disks and downloads are sold.
import { t } from "../text";

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

const hundredth = new Intl.NumberFormat("en-US", { maximumFractionDigits: 2 });
const digits = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });

/** A figure of the person's own money, or of energy: two decimals, and of what is smaller than one three digits. */
export function figure(value: number): string {
  return (Math.abs(value) >= 1 ? hundredth : digits).format(value).replace("-", "−");
}

export function count(value: number): string {
  return whole.format(value);
}

/** `1.4k`, `8k`, `640`: for meters, where the exact figure stands beside in a tooltip. */
export function short(value: number): string {
  if (value < 1000) return whole.format(value);
  const thousands = value / 1000;
  return `${thousands < 10 && value % 1000 >= 50 ? tenth.format(thousands) : whole.format(thousands)}k`;
}

/** 8192 is sold as "8k": contexts count in 1024s. */
export function context(tokens: number): string {
  if (tokens >= 1024 && tokens % 1024 === 0) return `${whole.format(tokens / 1024)}k`;
  return short(tokens);
}

export function bytes(value: number): string {
  if (value > 0 && value < 1e6) return `${whole.format(value / 1e3)} kB`;
  if (value < 1e9) return `${whole.format(value / 1e6)} MB`;
  return `${tenth.format(value / 1e9)} GB`;
}

/** `1.0 of 2.5 GB`: the unit once where both share it. */
export function bytesOf(done: number, total: number): string {
  const all = bytes(total);
  const some = bytes(done);
  const unit = all.slice(all.lastIndexOf(" "));
  return some.endsWith(unit) ? t.format.of(some.slice(0, -unit.length), all) : t.format.of(some, all);
}

/** Tokens per second: one decimal below ten, none above. */
export function speed(value: number): string {
  return value < 9.95 ? tenth.format(value) : whole.format(value);
}

/** A span of time: `0.4 s`, `12 s`, `3 min`, `1 h 5 min`. */
export function duration(ms: number): string {
  const seconds = ms / 1000;
  if (seconds < 9.95) return `${tenth.format(Math.max(seconds, ms > 0 ? 0.1 : 0))} s`;
  if (seconds < 90) return `${whole.format(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
}

const dayAndMonth = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const clockTime = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const dateAndTime = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });

export function clock(ms: number): string {
  return clockTime.format(ms);
}

export function exact(ms: number): string {
  return dateAndTime.format(ms);
}

/** `24 Oct`. */
export function date(ms: number): string {
  return dayAndMonth.format(ms);
}

export function ago(ms: number, now: number): string {
  const minutes = Math.floor((now - ms) / 60_000);
  if (minutes < 1) return t.format.justNow;
  if (minutes < 60) return t.format.minutesAgo(minutes);
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return t.format.hoursAgo(hours);
  return dayAndMonth.format(ms);
}

export type DayGroup = "today" | "yesterday" | "week" | "older";

/** By calendar days of this computer, not by spans of 24 hours. */
export function dayGroup(ms: number, now: number): DayGroup {
  const midnight = new Date(now);
  midnight.setHours(0, 0, 0, 0);
  const start = midnight.getTime();
  if (ms >= start) return "today";
  const days = Math.ceil((start - ms) / 86_400_000);
  if (days <= 1) return "yesterday";
  return days <= 7 ? "week" : "older";
}

/** What the core calls a peer: all of their identifiers begin alike, so the end of it. */
export function shortPeer(id: string): string {
  return id.slice(-6);
}

/** The middle of a long identifier left out: `12D3Ko…x9Qa`. */
export function shortId(id: string): string {
  return id.length <= 14 ? id : `${id.slice(0, 6)}…${id.slice(-4)}`;
}
