import { describe, expect, it } from "vitest";
import type { EarningRow } from "../../backend/types";
import { dgc, grouped, jobs } from "../../demo/money";
import { buckets, estimateOf, netOf, startOf, total } from "./earnings";

const NOW = new Date(2026, 10, 26, 14, 30).getTime();
const day = (date: number) => new Date(2026, 10, date).getTime();

function row(part: Partial<EarningRow>): EarningRow {
  return { job: null, day: null, atUnixMs: null, model: null, device: null, jobs: 1, tokensIn: 0, tokensOut: 0, earned: "1", energyWh: null, state: null, ...part };
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

describe("sums", () => {
  it("are the same by whatever they are grouped, to the last unit", () => {
    const all = jobs(NOW);
    const exact = all.reduce((sum, entry) => sum + BigInt(entry.earned), 0n);
    for (const by of ["job", "day", "model", "device"] as const) expect(total(grouped(all, by))).toBe(exact);
    const month = all.filter((entry) => (entry.atUnixMs ?? 0) >= startOf("month", NOW));
    expect(buckets(grouped(month, "day"), "month", NOW).reduce((sum, bar) => sum + bar.units, 0n)).toBe(total(month));
  });
});

describe("net of electricity", () => {
  const rows = [row({ earned: dgc("2"), energyWh: 1500 })];

  it("comes from the person's own two figures", () => {
    expect(netOf(rows, { tariff: 0.31, worth: 0.35 }, null)).toEqual({ kind: "net", cost: "0.465", net: "0.235" });
    expect(netOf(rows, { tariff: 1, worth: 0.35 }, null)).toEqual({ kind: "net", cost: "1.5", net: "−0.8" });
    // What the network's fee on claims takes is not the person's.
    expect(netOf(rows, { tariff: 0.31, worth: 0.35 }, 1000)).toEqual({ kind: "net", cost: "0.465", net: "0.165" });
  });

  it("is not said without them, or without a measurement", () => {
    expect(netOf(rows, { tariff: null, worth: 1 }, null).kind).toBe("not_set");
    expect(netOf(rows, { tariff: 1, worth: null }, null).kind).toBe("no_worth");
    expect(netOf([...rows, row({})], { tariff: 1, worth: 1 }, null).kind).toBe("no_energy");
    expect(netOf(rows, { tariff: 1, worth: 1e-9 }, null).kind).toBe("no_worth");
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
