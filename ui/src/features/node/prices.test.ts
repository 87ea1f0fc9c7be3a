import { describe, expect, it } from "vitest";
import type { AskedPrice } from "../../backend/types";
import { dgc } from "../../demo/money";
import { amount } from "../../lib/amount";
import { t } from "../../text";
import { askedFrom } from "./prices";

const say = (units: string) => `${amount(units)} DGC`;
const asked = (own: AskedPrice["own"], offers = 3): AskedPrice => ({ model: "m", input: "0", output: "0", offers, own });

describe("a price of this computer", () => {
  it("says whether it is the model's own figure, that of all, or a median", () => {
    expect(askedFrom(asked({ price: dgc("7"), floor: null }), dgc("1"), say)).toBe(t.modes.ownFigure);
    expect(askedFrom(asked(null), dgc("1"), say)).toBe(t.modes.asAll);
    expect(askedFrom(asked(null, 1), null, say)).toBe("median of 1 offer");
    expect(askedFrom(asked(null, 0), null, say)).toBe("median; no other offer is seen");
  });

  it("is held up by the model's own floor, and is a median though all have a figure", () => {
    expect(askedFrom(asked({ price: null, floor: dgc("2") }), dgc("1"), say)).toBe("median of 3 offers, never below 2 DGC");
    expect(askedFrom(asked({ price: null, floor: null }), dgc("1"), say)).toBe("median of 3 offers");
  });
});
