// Where a price of this computer comes from, in words.
import type { AskedPrice } from "../../backend/types";
import { t } from "../../text";

/** `all` is the figure for every model without a price of its own; the floor of all is said beside it, once. */
export function askedFrom(asked: AskedPrice, all: string | null, say: (units: string) => string): string {
  const price = asked.own ? asked.own.price : all;
  const floor = asked.own?.floor ?? null;
  if (price !== null) return asked.own ? t.modes.ownFigure : t.modes.asAll;
  const median = t.modes.medianOf(asked.offers);
  return floor === null ? median : t.modes.notBelow(median, say(floor));
}
