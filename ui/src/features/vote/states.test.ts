import { describe, expect, it } from "vitest";
import type { VoteStatus } from "../../backend/types";
import { dgc, moneyStatus, proposals, voteStatus, WALLET } from "../../demo/money";
import { amount } from "../../lib/amount";
import { t } from "../../text";
import { hereWithout, inForce, inOrder, nextOf, percent, proposed, tally, voteReasons, whyNoVote, whyPower } from "./states";

const NOW = 1_800_000_000_000;
const OTHER = "0x08C5eA1b7F36d9420a8B7fE1c93d50462fBa9D31";
const say = (units: string | bigint) => `${amount(units)} DGC`;
const votes = (part: Partial<VoteStatus>): VoteStatus => ({ ...voteStatus("paid", NOW), ...part });
const why = (part: Partial<VoteStatus>) => whyPower(votes(part), WALLET, "DGC", say);

describe("my power", () => {
  it("is explained", () => {
    expect(why({ wrapped: "0", power: "0", delegate: null })).toBe(t.vote.whyNone("DGC"));
    expect(why({ wrapped: dgc("5"), power: "0", delegate: null })).toBe(t.vote.whyUndelegated);
    expect(why({ wrapped: dgc("5"), power: dgc("5"), delegate: WALLET.toLowerCase() })).toBe("5 DGC wrapped, voting through you.");
    expect(why({ wrapped: dgc("5"), power: dgc("7"), delegate: WALLET })).toBe("5 DGC wrapped of your own, and 2 DGC that others gave you.");
    expect(why({ wrapped: dgc("5"), power: "0", delegate: OTHER })).toBe("Your 5 DGC wrapped vote through 0x08C5…9D31.");
    expect(why({ wrapped: dgc("5"), power: dgc("2"), delegate: OTHER })).toContain("Others gave you 2 DGC.");
    expect(why({ wrapped: "0", power: dgc("2"), delegate: null })).toContain("Others gave you 2 DGC.");
  });

  it("blocks what cannot be done, with a reason", () => {
    const paid = moneyStatus("paid", NOW);
    expect(Object.values(voteReasons(paid, votes({}), say))).toEqual([null, null, null, null, null]);
    expect(voteReasons(paid, votes({ power: "0", wrapped: "0" }), say)).toMatchObject({ propose: t.vote.whyBelow("100 DGC"), unwrap: t.vote.whyNoWrapped, delegate: t.vote.whyNoWrapped, wrap: null, sign: null });
    expect(voteReasons(paid, votes({ power: dgc("99.999999999999999999") }), say).propose).not.toBeNull();
    expect(voteReasons(paid, votes({ power: dgc("100") }), say).propose).toBeNull();
    expect(voteReasons(paid, votes({ power: "0", threshold: "0" }), say).propose).not.toBeNull();
    expect(voteReasons(moneyStatus("nowallet", NOW), votes({}), say).sign).toBe(t.vote.whyNoWallet);
    expect(voteReasons(moneyStatus("disagree", NOW), votes({}), say).sign).toBe(t.vote.whyWait);
    expect(voteReasons(moneyStatus("nocoin", NOW), votes({}), say).sign).toContain("ETH");
  });
});

describe("a proposal", () => {
  const one = () => {
    const found = proposals(NOW)[0];
    if (!found) throw new Error("the demo has a proposal");
    return found;
  };

  it("counts for and abstain toward the quorum, and not against", () => {
    const counted = tally({ ...one(), for: "30", against: "1000", abstain: "9", quorum: "40" });
    expect(counted.missing).toBe(1n);
    expect(tally({ ...one(), for: "30", against: "0", abstain: "10", quorum: "40" })).toMatchObject({ missing: 0n, for: 1 });
    expect(tally({ ...one(), for: "90", quorum: "40" }).missing).toBe(0n);
    expect(tally({ ...one(), quorum: null }).missing).toBeNull();
    expect(tally({ ...one(), for: "0", against: "0", abstain: "0", quorum: "1" })).toMatchObject({ for: 0, against: 0 });
  });

  it("is voted on with the power of when voting began", () => {
    const why = voteReasons(moneyStatus("paid", NOW), votes({}), say);
    expect(whyNoVote(one(), why)).toBeNull();
    expect(whyNoVote({ ...one(), weight: "0" }, why)).toBe(t.vote.whyNoWeight);
    expect(whyNoVote(one(), voteReasons(moneyStatus("offline", NOW), votes({}), say))).toBe(t.vote.whyWait);
  });

  it("waits for what anybody can send once it was carried, and for its time", () => {
    const carried = { ...one(), state: "counting" as const, outcome: "passed" as const };
    expect(nextOf({ ...carried, next: "queue" })).toMatchObject({ intent: { kind: "queue", id: "p1" } });
    expect(nextOf({ ...carried, next: "execute", etaUnixMs: NOW })).toMatchObject({ intent: { kind: "execute", id: "p1" } });
    expect(nextOf({ ...carried, next: null, etaUnixMs: NOW })).toMatchObject({ intent: null });
    expect(nextOf(one())).toBeNull();
    expect(nextOf({ ...one(), state: "closed", outcome: "executed", etaUnixMs: NOW })).toBeNull();
  });

  it("claims nothing of a change that nothing here goes by", () => {
    const change = { now: null, then: "", onThisNode: null };
    expect(hereWithout({ ...change, what: "audit_rate", used: false })).toBe(t.vote.hereUnused);
    expect(hereWithout({ ...change, what: "fee", used: true })).toBe(t.vote.hereNothing);
    expect(hereWithout({ ...change, what: "other", used: false })).toBe(t.vote.hereUnknown);
  });

  it("stands before others the sooner it needs a vote", () => {
    expect(inOrder(proposals(NOW)).map(({ state }) => state)).toEqual(["open", "counting", "counting", "counting", "upcoming", "closed", "closed"]);
    expect(inOrder(proposals(NOW)).map(({ id }) => id)).toEqual(["p1", "p5", "p6", "p7", "p2", "p3", "p4"]);
  });
});

describe("a change to propose", () => {
  it("is written in the unit of the contract", () => {
    expect(proposed("fee", "1.5")).toBe("150");
    expect(proposed("audit_rate", "0.01")).toBe("1");
    expect(proposed("minimum_stake", "0.5")).toBe("500000000000000000");
    expect(proposed("slash", "0")).toBe("0");
  });

  it("is refused outside of the contract's bounds, or finer than it can say", () => {
    expect(proposed("fee", "10")).toBe("1000");
    expect(proposed("fee", "10.01")).toBeNull();
    expect(proposed("audit_rate", "5.01")).toBeNull();
    expect(proposed("auditor_share", "50.01")).toBeNull();
    expect(proposed("slash", "51")).toBeNull();
    expect(proposed("fee", "1.005")).toBeNull();
    expect(proposed("fee", "-1")).toBeNull();
    expect(proposed("fee", "")).toBeNull();
  });

  it("stands beside what is in force", () => {
    const { params } = voteStatus("paid", NOW);
    expect(inForce("fee", params, say)).toBe("2 %");
    expect(inForce("minimum_stake", params, say)).toBe("500 DGC");
    expect([1, 25, 1000, 10_000].map(percent)).toEqual(["0.01", "0.25", "10", "100"]);
  });
});
