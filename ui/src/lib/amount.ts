// Amounts of money as people read and write them. Exact: integers of base units, never a float.
// Both windows use this file; it needs nothing else.

/** Of the token, and of the coin that fees are paid in. */
const DECIMALS = 18;
const ONE = 10n ** BigInt(DECIMALS);
/** An amount on the wire is an u128. */
const MOST = 2n ** 128n - 1n;
const TOKENS_PER_PRICE = 1_000_000n;
/** A brief amount keeps so many decimals, and below 0.001 so many digits that say something. */
const BRIEF_DECIMALS = 4;
const BRIEF_DIGITS = 3;

export type Length = "brief" | "at_most" | "exact";

/**
 * `1,234.5`: `brief` is cut, and never more than there is; `at_most` is as short and never less, for what something costs at
 * most; `exact` has every digit that is not a trailing zero.
 */
export function amount(units: string | bigint, length: Length = "exact"): string {
  const value = BigInt(units);
  const size = value < 0n ? -value : value;
  if (length === "at_most") return amount(roundedUp(value), "brief");
  const whole = (size / ONE).toString().replace(/\B(?=(\d{3})+$)/g, ",");
  const decimals = (size % ONE).toString().padStart(DECIMALS, "0");
  const kept = length === "brief" ? decimals.slice(0, briefDecimals(size)) : decimals;
  const shown = kept.replace(/0+$/, "");
  return `${value < 0n ? "−" : ""}${whole}${shown ? `.${shown}` : ""}`;
}

/** How many decimals of a size say something. */
function briefDecimals(size: bigint): number {
  const first = size < ONE ? (size % ONE).toString().padStart(DECIMALS, "0").search(/[1-9]/) : -1;
  return Math.min(DECIMALS, Math.max(BRIEF_DECIMALS, first + BRIEF_DIGITS));
}

function roundedUp(value: bigint): bigint {
  const step = 10n ** BigInt(DECIMALS - briefDecimals(value));
  return ((value + step - 1n) / step) * step;
}

/** What a person typed, in base units; null where it is no amount that exists. */
export function parse(text: string): bigint | null {
  const found = /^(\d*)(?:\.(\d*))?$/.exec(text.trim());
  if (!found || `${found[1]}${found[2] ?? ""}` === "") return null;
  const decimals = found[2] ?? "";
  if (decimals.length > DECIMALS) return null;
  const value = BigInt(found[1] || "0") * ONE + BigInt(decimals.padEnd(DECIMALS, "0"));
  return value <= MOST ? value : null;
}

export function sum(all: readonly string[]): bigint {
  return all.reduce((total, units) => total + BigInt(units), 0n);
}

export function isZero(units: string | null): boolean {
  return units === null || BigInt(units) === 0n;
}

/** A share of a whole in 0..1, for what is drawn and never for what is counted. */
export function share(part: string | bigint, whole: string | bigint): number {
  const all = BigInt(whole);
  if (all <= 0n) return 0;
  return Number((BigInt(part) * 10_000n) / all) / 10_000;
}

/** A sentence, with what stands behind a figure in one of these units put behind each: every amount on a test network says it. */
export function marked(text: string, units: readonly string[], mark: (amount: string) => string): string {
  const named = units.filter((unit) => /^\w+$/.test(unit));
  if (named.length === 0) return text;
  return text.replace(new RegExp(`\\d\\s(?:${named.join("|")})\\b(?! \\()`, "g"), mark);
}

/** What a job costs at most, rounded up as the protocol does. Prices are per million tokens. */
export function due(tokensIn: number, tokensOut: number, input: string, output: string): bigint {
  const exact = BigInt(tokensIn) * BigInt(input) + BigInt(tokensOut) * BigInt(output);
  return (exact + TOKENS_PER_PRICE - 1n) / TOKENS_PER_PRICE;
}
