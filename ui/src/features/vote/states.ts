// Votes in words: my power and why, how far a proposal is, and what a new figure means on the chain.
import type { Change, Intent, MoneyStatus, ProposalView, Rules, VoteStatus } from "../../backend/types";
import { amount, isZero, parse, share } from "../../lib/amount";
import { exact, shortId } from "../../lib/format";
import { t } from "../../text";
import { offline } from "../wallet/states";

/** Why the power is what it is; `me` is the wallet's address. */
export function whyPower(votes: VoteStatus, me: string | null, symbol: string, say: (units: string | bigint) => string): string {
  const own = me !== null && votes.delegate?.toLowerCase() === me.toLowerCase();
  const through = own ? BigInt(votes.wrapped) : 0n;
  const others = BigInt(votes.power) - through;
  const carries = others > 0n && !own ? ` ${t.vote.whyCarries(say(others))}` : "";
  if (isZero(votes.wrapped)) return `${t.vote.whyNone(symbol)}${carries}`;
  if (votes.delegate === null) return `${t.vote.whyUndelegated}${carries}`;
  if (!own) return `${t.vote.whyGiven(say(votes.wrapped), shortId(votes.delegate))}${carries}`;
  return others > 0n ? t.vote.whySelfMore(say(votes.wrapped), say(others)) : t.vote.whySelf(say(votes.wrapped));
}

/** `sign` is why nothing can be signed at all. */
export type VoteReasons = Record<"wrap" | "unwrap" | "delegate" | "propose" | "sign", string | null>;

export function voteReasons(status: MoneyStatus, votes: VoteStatus, say: (units: string) => string): VoteReasons {
  const wait = status.wallet === "none" ? t.vote.whyNoWallet : offline(status.network) !== null ? t.vote.whyWait : null;
  const wallet = status.accounts.find((account) => account.role === "wallet");
  const fee = wait ?? (isZero(wallet?.coin ?? null) ? t.wallet.whyNoCoin(status.network?.coin ?? "", t.wallet.roles.wallet) : null);
  const wrapped = isZero(votes.wrapped) ? t.vote.whyNoWrapped : null;
  const below = BigInt(votes.power) < BigInt(votes.threshold) || isZero(votes.power) ? t.vote.whyBelow(say(isZero(votes.threshold) ? "1" : votes.threshold)) : null;
  return {
    wrap: fee ?? (isZero(votes.mine) ? t.wallet.whyNoToken(status.network?.symbol ?? "", t.wallet.roles.wallet) : null),
    unwrap: fee ?? wrapped,
    delegate: fee ?? wrapped,
    propose: fee ?? below,
    sign: fee,
  };
}

/** Why this proposal cannot be voted on; what counts is the power when voting began. */
export function whyNoVote(proposal: ProposalView, why: VoteReasons): string | null {
  return why.sign ?? (isZero(proposal.weight) ? t.vote.whyNoWeight : null);
}

export type Tally = { for: number; against: number; /** Null before the quorum is fixed. */ missing: bigint | null };

/** For and abstain count toward the quorum, as in OpenZeppelin's GovernorCountingSimple; the bar is of for and against alone. */
export function tally(proposal: ProposalView): Tally {
  const cast = BigInt(proposal.for) + BigInt(proposal.against);
  const counted = BigInt(proposal.for) + BigInt(proposal.abstain);
  const missing = proposal.quorum === null ? null : BigInt(proposal.quorum) - counted;
  return { for: share(proposal.for, cast), against: share(proposal.against, cast), missing: missing !== null && missing < 0n ? 0n : missing };
}

export type Next = { text: string } & ({ intent: Intent; name: string } | { intent: null });

/** What a carried proposal waits for; anybody may send it, whatever their power. Null where it waits for nothing. */
export function nextOf(proposal: ProposalView): Next | null {
  switch (proposal.next) {
    case "queue":
      return { text: t.vote.nextQueue, intent: { kind: "queue", id: proposal.id }, name: t.vote.queue };
    case "execute":
      return { text: t.vote.nextExecute, intent: { kind: "execute", id: proposal.id }, name: t.vote.execute };
    case null:
      return proposal.state === "counting" && proposal.etaUnixMs !== null ? { text: t.vote.nextWait(exact(proposal.etaUnixMs)), intent: null } : null;
  }
}

/** What stands where a change says nothing of this node: that nothing here goes by it is another thing than that nothing changes. */
export function hereWithout(change: Change): string {
  if (change.what === "other") return t.vote.hereUnknown;
  return change.used ? t.vote.hereNothing : t.vote.hereUnused;
}

/** Open first, then what comes, then what is over; within each the nearest in time. */
export function inOrder(proposals: readonly ProposalView[]): ProposalView[] {
  const rank = { open: 0, counting: 1, upcoming: 2, closed: 3 };
  return [...proposals].sort((a, b) => rank[a.state] - rank[b.state] || (a.state === "closed" ? b.endsUnixMs - a.endsUnixMs : a.endsUnixMs - b.endsUnixMs));
}

export type Proposable = keyof typeof t.vote.proposeBounds;

/** The figure's code, its highest value in the contract's unit (null has no bound here), and units per percent (0: an amount of the token). */
const BOUNDS: Record<Proposable, { perPercent: bigint; most: bigint | null }> = {
  audit_rate: { perPercent: 100n, most: 500n },
  auditor_share: { perPercent: 100n, most: 5_000n },
  minimum_stake: { perPercent: 0n, most: null },
  slash: { perPercent: 100n, most: 5_000n },
  fee: { perPercent: 100n, most: 1_000n },
};

const ONE = 10n ** 18n;

/** What was typed, in the unit of the contract (1/10,000 or base units); null where it is out of bounds or finer than that unit. */
export function proposed(what: Proposable, text: string): string | null {
  const value = parse(text);
  if (value === null) return null;
  const { perPercent, most } = BOUNDS[what];
  if (perPercent === 0n) return value.toString();
  const scaled = value * perPercent;
  if (scaled % ONE !== 0n) return null;
  const units = scaled / ONE;
  return most !== null && units > most ? null : units.toString();
}

/** 25 of 10,000 is `0.25`. */
export function percent(tenThousandths: number): string {
  return amount((BigInt(tenThousandths) * ONE) / 100n);
}

export function inForce(what: Proposable, params: Rules, say: (units: string) => string): string {
  switch (what) {
    case "audit_rate":
      return t.vote.percent(percent(params.auditRate));
    case "auditor_share":
      return t.vote.percent(percent(params.auditorShareBps));
    case "minimum_stake":
      return say(params.minimumStake);
    case "slash":
      return t.vote.percent(percent(params.slashBps));
    case "fee":
      return t.vote.percent(percent(params.feeBps));
  }
}
