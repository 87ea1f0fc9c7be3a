import { describe, expect, it } from "vitest";
import type { AskedPrice, OfferPrice } from "../../backend/types";
import { t } from "../../text";
import { priceParts } from "./price";

const say = (units: string) => `${units} u`;
const asked = (output: string): AskedPrice => ({ model: "m", input: "0", output, offers: 0, own: null });
const offer = (outputLow: string, outputHigh: string): OfferPrice => ({ model: "m", inputLow: "0", inputHigh: "0", outputLow, outputHigh, offers: 2 });

describe("the price of a model in one line", () => {
  it("say what is known, and nothing where nothing is", () => {
    expect(priceParts(null, null, say)).toEqual([]);
    expect(priceParts(asked("4"), null, say)).toEqual([t.models.youAsk("4 u"), t.modes.written]);
    expect(priceParts(null, offer("3", "3"), say)).toEqual([t.models.othersAsk("3 u"), t.modes.written]);
    expect(priceParts(asked("0"), offer("0", "0"), say)).toEqual([t.models.youAsk(t.price.nothing), t.models.othersAsk(t.price.nothing)]);
    expect(priceParts(null, offer("3000000000000000000", "4"), say)).toEqual([t.models.othersAsk("3 – 4 u"), t.modes.written]);
  });
});
