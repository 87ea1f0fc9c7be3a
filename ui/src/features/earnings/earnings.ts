// Earnings of a time, put into buckets for the chart and put into words beside electricity.
import type { EarningRow, EnergyUsed, MoneySettings } from "../../backend/types";
import { figure } from "../../lib/format";
import { t } from "../../text";

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

/** What answers took and cost, and what is left, each in words; then why nothing is said net, where that needs a word. Nothing is estimated. */
export function electricitySaid(row: EarningRow, figures: Figures, symbol: string): string[] {
  const said = [energySaid(row)];
  if (row.cost !== null) said.push(t.earnings.cost(ownMoney(row.cost, figures.currency)));
  if (row.net !== null) said.push(t.earnings.net(ownMoney(row.net, figures.currency)));
  if (row.cost !== null && figures.worth === null) said.push(t.earnings.netNoWorth(symbol));
  if (row.energyKwh !== null && known(row) < row.jobs) said.push(t.earnings.netPart);
  return said;
}

type Figures = Pick<MoneySettings, "worth" | "currency">;

/** Energy with how it is known, and of how many answers where it is not known of all. */
export function energySaid(row: EarningRow): string {
  if (row.energyKwh === null) return t.earnings.notMeasured;
  const part = known(row) < row.jobs ? t.earnings.ofAnswers(known(row), row.jobs) : null;
  return [t.earnings.kwh(figure(row.energyKwh)), part, how(row)].filter((word) => word !== null).join(" ");
}

/** What answers for nothing took, and cost; null where that is not known of any. */
export function freeSaid({ free }: EnergyUsed, currency: string | null): string | null {
  if (free.kwh === null) return null;
  const took = [t.earnings.kwh(figure(free.kwh)), how(free)].filter((word) => word !== null).join(" ");
  return t.earnings.free(took, free.cost === null ? null : ownMoney(free.cost, currency));
}

/** Null where meters counted all of it. */
function how({ metered, stated }: { metered: number; stated: number }): string | null {
  if (stated === 0) return null;
  return metered === 0 ? t.earnings.ownFigure : t.earnings.partlyOwnFigure;
}

/** An amount of the person's own money. */
export function ownMoney(value: number, currency: string | null): string {
  return currency === null ? t.earnings.yourMoney(figure(value)) : `${figure(value)} ${currency}`;
}

function known(row: EarningRow): number {
  return row.metered + row.stated;
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
