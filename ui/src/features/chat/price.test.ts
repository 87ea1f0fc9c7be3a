import { describe, expect, it } from "vitest";
import type { OfferPrice } from "../../backend/types";
import { amount } from "../../lib/amount";
import { type Asking, priceOf } from "./price";

const DGC = "000000000000000000";
const offer: OfferPrice = { model: "m", inputLow: `1${DGC}`, inputHigh: `1${DGC}`, outputLow: `2${DGC}`, outputHigh: `4${DGC}`, offers: 2 };
const asking = (part: Partial<Asking> = {}): Asking => ({
  offer,
  mode: "earn",
  caps: { chat: null, price: null },
  tokensIn: 1000,
  tokensOut: 1000,
  say: (units) => `${amount(units)} DGC`,
  ...part,
});

describe("the price before sending", () => {
  it("is a range, and the most that this answer may cost", () => {
    expect(priceOf(asking())?.text).toBe("2 to 4 DGC per million tokens written · at most 0.005 DGC for this answer");
  });

  it("names the cap of the chat", () => {
    expect(priceOf(asking({ caps: { chat: "50000000000000000", price: null } }))?.text).toContain("0.05 DGC cap per chat");
  });

  it("is bounded by the highest price that is allowed", () => {
    expect(priceOf(asking({ caps: { chat: null, price: `3${DGC}` } }))?.text).toContain("at most 0.004 DGC");
  });

  it("says when every offer is above the highest price", () => {
    const priced = priceOf(asking({ caps: { chat: null, price: "1" } }));
    expect(priced).toEqual({ blocked: true, text: "Every offer is above your highest price of 0.000000000000000001 DGC." });
  });

  it("is free where nobody asks anything, and in the free mode only such are asked", () => {
    const free = { ...offer, inputLow: "0", inputHigh: "0", outputLow: "0", outputHigh: "0" };
    expect(priceOf(asking({ offer: free }))).toEqual({ text: "Free", blocked: false });
    expect(priceOf(asking({ mode: "free" }))?.blocked).toBe(true);
    expect(priceOf(asking({ mode: "free", offer: free }))?.blocked).toBe(false);
  });

  it("is not said where it is not known", () => {
    expect(priceOf(asking({ offer: null }))).toBeNull();
  });
});
