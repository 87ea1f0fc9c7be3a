// What a model costs, in the words of its row: what is asked for it here, and what others ask.
import type { AskedPrice, OfferPrice, Settings } from "../../backend/types";
import { amount, isZero } from "../../lib/amount";
import { t } from "../../text";

type Say = (units: string) => string;

/** The most that is paid for a model: its own limit, else the one for all; null is any price. */
export function capOf(settings: Settings | null, model: string | null): string | null {
  const own = model === null ? null : (settings?.money.caps[model] ?? null);
  return own ?? settings?.priceCap ?? null;
}

/** What others ask, from the lowest to the highest; null where nobody offers it. */
export function othersAsk(offer: OfferPrice | null, say: Say): string | null {
  if (offer === null) return null;
  if (isZero(offer.outputHigh)) return t.price.free;
  return offer.outputLow === offer.outputHigh ? say(offer.outputLow) : t.wallet.range(amount(offer.outputLow, "brief"), say(offer.outputHigh));
}

/** What is asked here; null where it is not lent for anything. */
export function youAsk(asked: AskedPrice | null, say: Say): string | null {
  if (asked === null) return null;
  return isZero(asked.output) ? t.price.free : say(asked.output);
}

/** Both, and for how much of an answer: the parts of one line under the model. */
export function priceParts(asked: AskedPrice | null, offer: OfferPrice | null, say: Say): string[] {
  const [own, others] = [youAsk(asked, say), othersAsk(offer, say)];
  const word = (amount: string) => (amount === t.price.free ? t.price.nothing : amount);
  const priced = [own, others].some((amount) => amount !== null && amount !== t.price.free);
  return [own === null ? null : t.models.youAsk(word(own)), others === null ? null : t.models.othersAsk(word(others)), priced ? t.modes.written : null].filter((part) => part !== null);
}
