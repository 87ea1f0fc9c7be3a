// Earnings of a time, put into buckets for the chart and set against electricity for the sentence below it.
import type { EarningRow, Electricity } from "../../backend/types";
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

export function netOf(rows: readonly EarningRow[], electricity: Electricity | null): Net {
  if (electricity === null) return { kind: "not_set" };
  if (electricity.worth === null) return { kind: "no_worth" };
  if (rows.some((row) => row.energyWh === null)) return { kind: "no_energy" };
  const worth = worthOf(total(rows), electricity.worth);
  const cost = costOf(
    rows.reduce((wattHours, row) => wattHours + (row.energyWh ?? 0), 0),
    electricity.tariff,
  );
  if (worth === null || cost === null) return { kind: "no_worth" };
  const say = (value: bigint) => `${amount(value, "brief")} ${electricity.currency}`;
  return { kind: "net", cost: say(cost), net: say(worth - cost) };
}
