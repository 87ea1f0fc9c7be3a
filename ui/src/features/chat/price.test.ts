import { describe, expect, it } from "vitest";
import type { OfferPrice } from "../../backend/types";
import { amount } from "../../lib/amount";
import { type Asking, leftOf, priceOf } from "./price";

const DGC = "000000000000000000";
const offer: OfferPrice = { model: "m", inputLow: `1${DGC}`, inputHigh: `1${DGC}`, outputLow: `2${DGC}`, outputHigh: `4${DGC}`, offers: 2 };
const asking = (part: Partial<Asking> = {}): Asking => ({
  offer,
  left: 1n,
  caps: { chat: null, price: null },
  tokensIn: 1000,
  tokensOut: 1000,
  say: (units) => `${amount(units)} DGC`,
  ...part,
});

describe("the price before sending", () => {
  it("is a range, and the most that this answer may cost", () => {
    expect(priceOf(asking())?.text).toBe("At most 0.005 DGC for this answer · 2 to 4 DGC per million tokens written");
  });

  it("names the cap of the chat", () => {
    expect(priceOf(asking({ caps: { chat: "50000000000000000", price: null } }))?.text).toContain("0.05 DGC cap per chat");
  });

  it("is bounded by the highest price that is allowed", () => {
    expect(priceOf(asking({ caps: { chat: null, price: `3${DGC}` } }))?.text).toContain("At most 0.004 DGC");
  });

  it("says when every offer is above the highest price", () => {
    const priced = priceOf(asking({ caps: { chat: null, price: "1" } }));
    expect(priced).toEqual({ remedy: "limits", text: "Every offer is above your highest price of 0.000000000000000001 DGC." });
  });

  it("is free where nobody asks anything, and without money only such are asked", () => {
    const free = { ...offer, inputLow: "0", inputHigh: "0", outputLow: "0", outputHigh: "0" };
    expect(priceOf(asking({ offer: free, left: 0n }))).toEqual({ text: "Free", remedy: null });
    expect(priceOf(asking({ left: 0n }))?.remedy).toBe("deposit");
    const some = { ...offer, inputLow: "0", outputLow: "0" };
    expect(priceOf(asking({ offer: some, left: 0n }))?.remedy).toBeNull();
    expect(priceOf(asking({ offer: some, left: 0n }))?.text).toContain("Only peers who ask nothing");
  });

  it("is paid from what this device was granted and has not promised", () => {
    const vault = { free: "9", granted: "5", promised: "3", spent: "1", untilUnixS: null, bond: "1", ended: null };
    expect(leftOf(vault)).toBe(2n);
    expect(leftOf(null)).toBe(0n);
  });

  it("is not said where it is not known", () => {
    expect(priceOf(asking({ offer: null }))).toBeNull();
  });
});
