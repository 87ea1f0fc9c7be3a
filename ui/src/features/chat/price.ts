// What an answer by a peer would cost, said before it is sent.
import type { Mode, OfferPrice, Units } from "../../backend/types";
import { amount, due, isZero } from "../../lib/amount";
import { t } from "../../text";

export type Priced = { text: string; /** Nobody would be asked as things stand. */ blocked: boolean };

export type Asking = {
  offer: OfferPrice | null;
  mode: Mode;
  /** The highest price of a million tokens, and the most of a chat. */
  caps: { price: Units | null; chat: Units | null };
  /** Tokens that are read, and the longest answer. */
  tokensIn: number;
  tokensOut: number;
  say: (units: string | bigint) => string;
};

/** Null where no price is known: then nothing is said. */
export function priceOf({ offer, mode, caps, tokensIn, tokensOut, say }: Asking): Priced | null {
  if (offer === null) return null;
  const free = isZero(offer.outputLow) && isZero(offer.inputLow);
  if (mode === "free") return { text: t.price.onlyFree, blocked: !free };
  if (isZero(offer.outputHigh) && isZero(offer.inputHigh)) return { text: t.price.free, blocked: false };
  if (caps.price !== null && BigInt(offer.outputLow) > BigInt(caps.price)) return { text: t.price.above(say(caps.price)), blocked: true };
  const range =
    offer.outputLow === offer.outputHigh ? t.price.one(say(offer.outputLow)) : t.price.range(amount(offer.outputLow, "brief"), say(offer.outputHigh));
  // The dearest offer that the cap allows bounds what an answer costs.
  const dearest = caps.price !== null && BigInt(caps.price) < BigInt(offer.outputHigh) ? caps.price : offer.outputHigh;
  const most = due(tokensIn, tokensOut, offer.inputHigh, dearest);
  const parts = [range, t.price.most(say(most)), ...(caps.chat === null ? [] : [t.price.cap(say(caps.chat))])];
  return { text: parts.join(" · "), blocked: false };
}
