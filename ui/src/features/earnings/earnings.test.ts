import { describe, expect, it } from "vitest";
import type { EarningRow } from "../../backend/types";
import { grouped, jobs } from "../../demo/money";
import { sum } from "../../lib/amount";
import { t } from "../../text";
import { buckets, electricitySaid, energySaid, estimateOf, freeSaid, startOf } from "./earnings";

const NOW = new Date(2026, 10, 26, 14, 30).getTime();
const day = (date: number) => new Date(2026, 10, date).getTime();

function row(part: Partial<EarningRow>): EarningRow {
  return { job: null, day: null, atUnixMs: null, model: null, device: null, jobs: 1, tokensIn: 0, tokensOut: 0, earned: "1", energyKwh: null, metered: 0, stated: 0, cost: null, net: null, state: null, ...part };
}

describe("periods", () => {
  it("end with today and begin at midnight", () => {
    expect(startOf("today", NOW)).toBe(day(26));
    expect(startOf("week", NOW)).toBe(day(20));
    expect(startOf("month", NOW)).toBe(new Date(2026, 9, 28).getTime());
  });

  it("have a bar for every day, also over a change of the clock", () => {
    // Whatever the zone of this computer: 30 midnights are 30 bars.
    for (const now of [NOW, new Date(2026, 2, 30, 12).getTime(), new Date(2026, 10, 2, 12).getTime()]) {
      const bars = buckets([], "month", now);
      expect(bars).toHaveLength(30);
      expect(bars.every((bar) => new Date(bar.startMs).getHours() === 0)).toBe(true);
      expect(buckets([], "week", now)).toHaveLength(7);
    }
  });

  it("show the hours of today up to now", () => {
    const bars = buckets([row({ atUnixMs: new Date(2026, 10, 26, 9, 59).getTime(), earned: "5" })], "today", NOW);
    expect(bars).toHaveLength(15);
    expect(bars[9]?.units).toBe(5n);
  });
});

const total = (rows: readonly EarningRow[]) => sum(rows.map((row) => row.earned));

describe("sums", () => {
  it("are the same by whatever they are grouped, to the last unit", () => {
    const all = jobs(NOW);
    const exact = all.reduce((sum, entry) => sum + BigInt(entry.earned), 0n);
    for (const by of ["job", "day", "model", "device", "total"] as const) expect(total(grouped(all, by))).toBe(exact);
    const month = all.filter((entry) => (entry.atUnixMs ?? 0) >= startOf("month", NOW));
    expect(buckets(grouped(month, "day"), "month", NOW).reduce((sum, bar) => sum + bar.units, 0n)).toBe(total(month));
  });
});

describe("electricity", () => {
  const figures = { worth: 0.35, currency: "€" };
  const measured = { energyKwh: 1.5, metered: 1, cost: 0.465, net: 0.235 };

  it("is said with its cost and what is left, in the person's own money", () => {
    expect(electricitySaid(row(measured), figures, "DGC")).toEqual(["1.5 kWh", "electricity 0.465 €", "net 0.235 €"]);
    expect(electricitySaid(row({ ...measured, net: -0.8 }), { worth: 0.35, currency: null }, "DGC")).toEqual(["1.5 kWh", "electricity 0.465 of your money", "net −0.8 of your money"]);
  });

  it("says whose figure it is, and of how many answers it is known", () => {
    expect(energySaid(row({ energyKwh: 0.000_012_34, metered: 0, stated: 1 }))).toBe("0.0000123 kWh by your own figure");
    expect(energySaid(row({ energyKwh: 2, jobs: 5, metered: 1, stated: 1 }))).toBe("2 kWh for 2 of 5 answers partly by your own figure");
  });

  it("is neither guessed nor set against earnings where it is not known", () => {
    expect(electricitySaid(row({}), figures, "DGC")).toEqual([t.earnings.notMeasured]);
    expect(electricitySaid(row({ energyKwh: 2, jobs: 2, metered: 1 }), figures, "DGC")).toEqual(["2 kWh for 1 of 2 answers", t.earnings.netPart]);
    expect(electricitySaid(row({ ...measured, net: null }), { worth: null, currency: "€" }, "DGC")).toEqual(["1.5 kWh", "electricity 0.465 €", t.earnings.netNoWorth("DGC")]);
    expect(electricitySaid(row({ energyKwh: 2, metered: 1 }), { worth: null, currency: "€" }, "DGC")).toEqual(["2 kWh"]);
  });
});

describe("the projection", () => {
  const days = (sums: number[]) => sums.map((earned, at) => row({ day: day(25 - at), earned: String(earned) }));

  it("is hidden until three whole days were measured, and today is none", () => {
    expect(estimateOf([], NOW)).toBeNull();
    expect(estimateOf([row({ day: day(26) })], NOW)).toBeNull();
    expect(estimateOf(days([4, 4]), NOW)).toBeNull();
    expect(estimateOf(days([4, 4, 4]), NOW)).toEqual({ low: 120n, high: 120n, days: 3 });
  });

  it("is the range of the middle days over a month, with days of nothing counted", () => {
    expect(estimateOf(days([10, 20, 30, 40, 50]), NOW)).toEqual({ low: 600n, high: 1200n, days: 5 });
    expect(estimateOf(days([10, 0, 0, 0, 50]), NOW)).toEqual({ low: 0n, high: 300n, days: 5 });
  });

  it("has two digits, rounded outwards", () => {
    expect(estimateOf(days([1234, 1234, 1234]), NOW)).toEqual({ low: 37_000n, high: 38_000n, days: 3 });
  });

  it("looks back two weeks at most", () => {
    expect(estimateOf(days([...Array<number>(14).fill(1), ...Array<number>(10).fill(1_000_000)]), NOW)).toEqual({ low: 30n, high: 30n, days: 14 });
  });
});

describe("answers for nothing", () => {
  it("say what they took where that is known, and what it cost where that is", () => {
    const none = { metered: 0, stated: 0, kwh: null, cost: null };
    const said = (free: Partial<typeof none> | { kwh: number; stated?: number; metered?: number; cost?: number }) => freeSaid({ paid: none, free: { ...none, ...free } }, "€");
    expect(said({})).toBeNull();
    expect(said({ kwh: 0.5, metered: 2 })).toBe(t.earnings.free("0.5 kWh", null));
    expect(said({ kwh: 0.5, stated: 2, cost: 0.155 })).toBe(t.earnings.free("0.5 kWh by your own figure", "0.155 €"));
  });
});
