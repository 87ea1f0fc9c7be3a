import { describe, expect, it } from "vitest";
import type { AskedPrice, OfferPrice } from "../../backend/types";
import { SETTINGS } from "../../demo/world";
import { t } from "../../text";
import { capOf, priceParts } from "./price";

const say = (units: string) => `${units} u`;
const asked = (output: string): AskedPrice => ({ model: "m", input: "0", output, offers: 0, own: null });
const offer = (outputLow: string, outputHigh: string): OfferPrice => ({ model: "m", inputLow: "0", inputHigh: "0", outputLow, outputHigh, offers: 2 });

describe("the most that is paid for a model", () => {
  it("is its own limit, else the one for all, else any", () => {
    const settings = (priceCap: string | null, caps: Record<string, string>) => ({ ...SETTINGS, priceCap, money: { ...SETTINGS.money, caps } });
    expect(capOf(settings("4", { m: "7" }), "m")).toBe("7");
    expect(capOf(settings("4", { m: "7" }), "other")).toBe("4");
    expect(capOf(settings("4", { m: "7" }), null)).toBe("4");
    expect(capOf(settings(null, {}), "m")).toBeNull();
    expect(capOf(null, "m")).toBeNull();
  });
});

describe("the price of a model in one line", () => {
  it("say what is known, and nothing where nothing is", () => {
    expect(priceParts(null, null, say)).toEqual([]);
    expect(priceParts(asked("4"), null, say)).toEqual([t.models.youAsk("4 u"), t.modes.written]);
    expect(priceParts(null, offer("3", "3"), say)).toEqual([t.models.othersAsk("3 u"), t.modes.written]);
    expect(priceParts(asked("0"), offer("0", "0"), say)).toEqual([t.models.youAsk(t.price.nothing), t.models.othersAsk(t.price.nothing)]);
    expect(priceParts(null, offer("3000000000000000000", "4"), say)).toEqual([t.models.othersAsk("3 – 4 u"), t.modes.written]);
  });
});
