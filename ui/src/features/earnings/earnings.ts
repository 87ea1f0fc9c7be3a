// Earnings of a time, put into buckets for the chart and set against electricity for the sentence below it.
import type { EarningRow, MoneySettings } from "../../backend/types";
import { amount, costOf, sum, worthOf } from "../../lib/amount";

export type Period = "today" | "week" | "month";

const DAYS: Record<Period, number> = { today: 1, week: 7, month: 30 };
const HOURS = 24;

/** The first moment of the period, by calendar days of this computer; today is its last day. */
export function startOf(period: Period, now: number): number {
  const day = new Date(now);
  day.setHours(0, 0, 0, 0);
  day.setDate(day.getDate() - (DAYS[period] - 1));
  return day.getTime();
}

export type Bucket = { startMs: number; units: bigint };

/** Hours of today, else days: every one of them, also those without earnings. Days are stepped by date, as some have 23 or 25 hours. */
export function buckets(rows: readonly EarningRow[], period: Period, now: number): Bucket[] {
  const starts: number[] = [];
  const at = new Date(startOf(period, now));
  for (let n = 0; n < (period === "today" ? HOURS : DAYS[period]); n++) {
    starts.push(at.getTime());
    if (period === "today") at.setHours(at.getHours() + 1);
    else at.setDate(at.getDate() + 1);
  }
  const list = starts.map((startMs) => ({ startMs, units: 0n }));
  for (const row of rows) {
    const when = (period === "today" ? row.atUnixMs : row.day) ?? row.atUnixMs ?? row.day;
    const into = when === null ? undefined : list.findLast((bucket) => bucket.startMs <= when);
    if (into) into.units += BigInt(row.earned);
  }
  return period === "today" ? list.filter((bucket) => bucket.startMs <= now) : list;
}

export function total(rows: readonly EarningRow[]): bigint {
  return sum(rows.map((row) => row.earned));
}

/** What is left after electricity, or why that cannot be said. Nothing is estimated. */
export type Net = { kind: "net"; cost: string; net: string } | { kind: "not_set" } | { kind: "no_worth" } | { kind: "no_energy" };

/** `feeBps` is what the network's fee on claims takes, in 1/10,000; null while it is not known, and then it counts as none. */
export function netOf(rows: readonly EarningRow[], figures: Pick<MoneySettings, "tariff" | "worth">, feeBps: number | null): Net {
  if (rows.some((row) => (row.energyWh ?? null) === null)) return { kind: "no_energy" };
  if (figures.tariff === null) return { kind: "not_set" };
  if (figures.worth === null) return { kind: "no_worth" };
  const worth = worthOf(afterFee(total(rows), feeBps ?? 0), String(figures.worth));
  const cost = costOf(
    rows.reduce((wattHours, row) => wattHours + (row.energyWh ?? 0), 0),
    String(figures.tariff),
  );
  if (worth === null || cost === null) return { kind: "no_worth" };
  return { kind: "net", cost: amount(cost, "brief"), net: amount(worth - cost, "brief") };
}

/** The vault rounds its fee down. */
export function afterFee(units: bigint, feeBps: number): bigint {
  return units - (units * BigInt(feeBps)) / 10_000n;
}

export type Estimate = { low: bigint; high: bigint; days: number };

/** Fewer whole days than this say nothing of a month. */
const LEAST_DAYS = 3;
const MOST_DAYS = 14;
const MONTH_DAYS = 30n;

/** The quartiles of the last whole days since the first earning, over a month; null until there are days enough. Today is not over. */
export function estimateOf(rows: readonly EarningRow[], now: number): Estimate | null {
  const days = buckets(rows, "month", now).slice(0, -1);
  const first = days.findIndex((day) => day.units > 0n);
  if (first < 0) return null;
  const sums = days
    .slice(first)
    .slice(-MOST_DAYS)
    .map((day) => day.units)
    .sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  if (sums.length < LEAST_DAYS) return null;
  const at = (quarter: number) => (sums[Math.round(((sums.length - 1) * quarter) / 4)] ?? 0n) * MONTH_DAYS;
  return { low: coarse(at(1), false), high: coarse(at(3), true), days: sums.length };
}

/** Two digits are all that a projection knows. */
function coarse(units: bigint, up: boolean): bigint {
  const step = 10n ** BigInt(Math.max(0, units.toString().length - 2));
  return ((units + (up ? step - 1n : 0n)) / step) * step;
}
