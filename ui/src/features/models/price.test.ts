import { describe, expect, it } from "vitest";
import type { AskedPrice, OfferPrice } from "../../backend/types";
import { t } from "../../text";
import { priceLine } from "./price";

const say = (units: string) => `${units} u`;
const asked = (output: string): AskedPrice => ({ model: "m", input: "0", output, offers: 0, own: null });
const offer = (outputLow: string, outputHigh: string): OfferPrice => ({ model: "m", inputLow: "0", inputHigh: "0", outputLow, outputHigh, offers: 2 });

describe("the price line of a model", () => {
  it("says what is known, and nothing where nothing is", () => {
    expect(priceLine(null, null, say)).toBeNull();
    expect(priceLine(asked("4"), null, say)).toBe(t.models.youAsk("4 u"));
    expect(priceLine(null, offer("3", "3"), say)).toBe(t.models.othersAsk("3 u"));
    expect(priceLine(asked("0"), offer("0", "0"), say)).toBe(`${t.models.youAsk(t.price.free)} · ${t.models.othersAsk(t.price.free)}`);
    expect(priceLine(null, offer("3000000000000000000", "4"), say)).toBe(t.models.othersAsk("3 – 4 u"));
  });
});
