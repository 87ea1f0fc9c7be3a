import { describe, expect, it } from "vitest";
import { amount, due, marked, parse, share, sum } from "./amount";

describe("amounts", () => {
  it("are exact to the last unit, also where a float is not", () => {
    expect(amount("1")).toBe("0.000000000000000001");
    expect(amount("9007199254740993000000000000000001")).toBe("9,007,199,254,740,993.000000000000000001");
    expect(amount("340282366920938463463374607431768211455")).toBe("340,282,366,920,938,463,463.374607431768211455");
    expect(amount("0")).toBe("0");
    expect(amount("1200000000000000000000")).toBe("1,200");
  });

  it("are cut when brief, and never shown as more than they are", () => {
    expect(amount("2604999999999999999", "brief")).toBe("2.6049");
    expect(amount("999999999999999999", "brief")).toBe("0.9999");
    expect(amount("1000000000000000", "brief")).toBe("0.001");
  });

  it("are never shown as less than they are where they are the most of something", () => {
    expect(amount("85191043788174", "at_most")).toBe("0.0000852");
    expect(amount("2604900000000000001", "at_most")).toBe("2.605");
    expect(amount("999999999999999999", "at_most")).toBe("1");
    expect(amount("1", "at_most")).toBe("0.000000000000000001");
    expect(amount("0", "at_most")).toBe("0");
    expect(amount("1500000000000000000", "at_most")).toBe("1.5");
  });

  it("say something however small they are", () => {
    expect(amount("2123456789", "brief")).toBe("0.00000000212");
    expect(amount("1", "brief")).toBe("0.000000000000000001");
    expect(amount("0", "brief")).toBe("0");
  });

  it("say inside of a sentence what every one of a test network must say, each once", () => {
    const mark = (amount: string) => `${amount} (worth nothing)`;
    expect(marked("Of 1.5 DGC, 2 devETH went; DGC stays.", ["DGC", "devETH"], mark)).toBe("Of 1.5 DGC (worth nothing), 2 devETH (worth nothing) went; DGC stays.");
    expect(marked("1 DGC (worth nothing)", ["DGC"], mark)).toBe("1 DGC (worth nothing)");
    expect(marked("1 DGCX and 1 a+", ["DGC", "a+"], mark)).toBe("1 DGCX and 1 a+");
  });

  it("keep their sign", () => {
    expect(amount(-1500000000000000000n)).toBe("−1.5");
  });

  it("are read as they are written", () => {
    expect(parse("1.5")).toBe(1_500_000_000_000_000_000n);
    expect(parse(" .000000000000000001 ")).toBe(1n);
    expect(parse("7.")).toBe(7_000_000_000_000_000_000n);
    for (const units of ["1", "999999999999999999", "340282366920938463463374607431768211455"]) {
      expect(parse(amount(units).replace(/,/g, ""))?.toString()).toBe(units);
    }
  });

  it("are refused where they are none", () => {
    for (const text of ["", ".", "-1", "+1", "1e3", "1,5", "1,000", "0x10", "1.0000000000000000001", "340282366920938463464", "NaN", "１"]) expect(parse(text), text).toBeNull();
  });

  it("add up", () => {
    expect(sum(["9007199254740993", "1", "0"])).toBe(9007199254740994n);
    expect(sum([])).toBe(0n);
  });

  it("are shares for drawing", () => {
    expect(share("11", "50")).toBe(0.22);
    expect(share("1", "0")).toBe(0);
    expect(share("3", "2")).toBe(1.5);
  });
});

describe("what is due", () => {
  it("is rounded up once, on the whole", () => {
    expect(due(1, 0, "1", "0")).toBe(1n);
    expect(due(1_000_000, 0, "1", "0")).toBe(1n);
    expect(due(412, 96, "800000000000000000", "2400000000000000000")).toBe(560_000_000_000_000n);
    expect(due(0, 0, "1", "1")).toBe(0n);
  });
});
