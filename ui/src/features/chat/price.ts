// What an answer by a peer would cost, said before it is sent.
import type { OfferPrice, Units, VaultView } from "../../backend/types";
import { amount, due, isZero } from "../../lib/amount";
import { t } from "../../text";

/** `remedy` is what the person can change where nobody would be asked as things stand. */
export type Priced = { text: string; remedy: "deposit" | "limits" | null };

export type Asking = {
  offer: OfferPrice | null;
  /** What this device may still promise. */
  left: bigint;
  /** The highest price of a million tokens, and the most of a chat. */
  caps: { price: Units | null; chat: Units | null };
  /** Tokens that are read, and the longest answer. */
  tokensIn: number;
  tokensOut: number;
  say: (units: string | bigint) => string;
};

/** Null where no price is known: then nothing is said. */
export function priceOf({ offer, left, caps, tokensIn, tokensOut, say }: Asking): Priced | null {
  if (offer === null) return null;
  if (isZero(offer.outputHigh) && isZero(offer.inputHigh)) return { text: t.price.free, remedy: null };
  if (left <= 0n) {
    const someAskNothing = isZero(offer.outputLow) && isZero(offer.inputLow);
    return someAskNothing ? { text: t.price.onlyFree, remedy: null } : { text: t.price.nothingLeft, remedy: "deposit" };
  }
  if (caps.price !== null && BigInt(offer.outputLow) > BigInt(caps.price)) return { text: t.price.above(say(caps.price)), remedy: "limits" };
  const range =
    offer.outputLow === offer.outputHigh ? t.price.one(say(offer.outputLow)) : t.price.range(amount(offer.outputLow, "brief"), say(offer.outputHigh));
  // The dearest offer that the cap allows bounds what an answer costs.
  const dearest = caps.price !== null && BigInt(caps.price) < BigInt(offer.outputHigh) ? caps.price : offer.outputHigh;
  const most = due(tokensIn, tokensOut, offer.inputHigh, dearest);
  const parts = [t.price.most(say(most)), range, ...(caps.chat === null ? [] : [t.price.cap(say(caps.chat))])];
  return { text: parts.join(" · "), remedy: null };
}

/** What of its grant this device has not promised yet. */
export function leftOf(vault: VaultView | null): bigint {
  return vault === null ? 0n : BigInt(vault.granted) - BigInt(vault.promised);
}
