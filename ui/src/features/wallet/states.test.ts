import { describe, expect, it } from "vitest";
import type { MoneyStatus, Problem } from "../../backend/types";
import { dgc, type MoneyScene, moneyStatus } from "../../demo/money";
import { exact } from "../../lib/format";
import { t } from "../../text";
import { addressProblem, amountProblem, dayCap, endedNote, grantUsed, networkSaid, reasons, remedy, sayReasons, shareProblem, shownProblems, steps, withdrawable } from "./states";

const NOW = 1_800_000_000_000;
const status = (scene: MoneyScene) => moneyStatus(scene, NOW);

describe("what can be done with money", () => {
  it("is everything where nothing is missing", () => {
    expect(Object.values(reasons(status("paid")))).toEqual([null, null, null, null, null]);
  });

  it("is nothing without a wallet, and the reason is said once", () => {
    const why = reasons(status("nowallet"));
    expect(sayReasons(why, ["receive", "send", "deposit"])).toEqual(["Receive, Send, Deposit: there is no wallet yet."]);
  });

  it("names the account that lacks coin", () => {
    expect(reasons(status("nocoin"))).toMatchObject({
      receive: null,
      send: "the account “Wallet” has no ETH to pay the fee.",
      deposit: "the account “Spending” has no ETH to pay the fee.",
    });
  });

  it("takes a deposit from the account that asking is paid from", () => {
    const rich = status("paid");
    const spend = (token: string) => ({ ...rich, mode: "earn" as const, accounts: rich.accounts.map((account) => (account.role === "spend" ? { ...account, token } : account)) });
    expect(reasons(spend(dgc("0"))).deposit).toBe("the account “Spending” has no DGC.");
    expect(reasons(spend(dgc("1"))).deposit).toBeNull();
    expect(reasons({ ...spend(dgc("0")), mode: "lend_and_spend" }).deposit).toBeNull();
  });

  it.each([
    ["offline", t.wallet.whyOffline],
    ["disagree", t.wallet.whyDisagree],
  ] as const)("waits while the network is %s, but receiving does not", (scene, why) => {
    expect(reasons(status(scene))).toEqual({ receive: null, send: why, deposit: why, withdraw: why, grant: why });
  });

  it("does not guess a balance", () => {
    const unknown: MoneyStatus = { ...status("paid"), accounts: status("paid").accounts.map((account) => ({ ...account, coin: null, token: null })) };
    expect(reasons(unknown).send).toBe(t.wallet.whyNotKnown);
  });

  it("withdraws nothing where nothing is free", () => {
    const vault = status("paid").vault;
    if (!vault) throw new Error("the scene has a vault");
    expect(reasons({ ...status("paid"), vault: { ...vault, free: "0", ended: null } })).toMatchObject({ withdraw: t.wallet.whyVaultEmpty, grant: t.wallet.whyVaultEmpty, deposit: null });
    expect(reasons({ ...status("paid"), vault: null }).withdraw).toBe(t.wallet.whyVaultEmpty);
  });

  it("withdraws what a stopped key gives back, and says when the rest comes", () => {
    const vault = status("paid").vault;
    if (!vault) throw new Error("the scene has a vault");
    const ended = { left: "30", due: "20", nextUnixS: 1_700_000_000 };
    const back = { ...vault, free: "5", ended };
    expect(withdrawable(back)).toBe("25");
    expect(reasons({ ...status("paid"), vault: { ...back, free: "0" } })).toMatchObject({ withdraw: null, grant: t.wallet.whyVaultEmpty });
    expect(endedNote(ended)).toBe(`${t.wallet.endedPart}; ${t.wallet.endedFrom(exact(1_700_000_000_000))}`);
    expect(endedNote({ ...ended, due: "30", nextUnixS: null })).toBe(t.wallet.endedAll);
    expect(endedNote({ ...ended, due: "0", nextUnixS: null })).toBe(t.wallet.endedWaits);
  });
});

describe("the network", () => {
  const said = (scene: MoneyScene) => {
    const { network } = status(scene);
    return network && networkSaid(network);
  };

  it("says how sure its answers are", () => {
    expect(said("paid")).toEqual({ tone: "plain", text: "2 endpoints agree." });
    expect(said("disagree")?.text).toContain("Two endpoints disagree");
    expect(said("offline")?.tone).toBe("bad");
    const { network } = status("paid");
    expect(network && networkSaid({ ...network, state: "one_only" }).tone).toBe("warn");
  });
});

describe("problems", () => {
  const problem = (code: string): Problem => ({ code, message: code, fix: null });

  it("have their remedy as a button where the page has one", () => {
    expect(remedy(problem("no_coin"), status("paid"))).toBe("receive");
    expect(remedy(problem("no_coin_operator"), status("paid"))).toBe("fund_operator");
    expect(remedy(problem("no_token"), status("notoken"))).toBe("faucet");
    // Asking the faucet costs a fee.
    expect(remedy(problem("no_token"), status("nocoin"))).toBe("receive");
    const { network } = status("notoken");
    expect(remedy(problem("no_token"), { ...status("notoken"), network: network && { ...network, faucet: false } })).toBe("receive");
    expect(remedy(problem("not_backed_up"), status("paid"))).toBe("back_up");
    expect(remedy(problem("no_wallet"), status("paid"))).toBe("create");
    expect(remedy(problem("books_stopped"), status("paid"))).toBeNull();
  });

  it("are shown unless the page says them in a place of their own", () => {
    const shown = shownProblems({ ...status("paid"), problems: ["no_wallet", "not_backed_up", "chain_offline", "chain_disagrees", "no_coin", "new_one"].map(problem) });
    expect(shown.map(({ code }) => code)).toEqual(["no_coin", "new_one"]);
  });
});

describe("what stands before the first paid answer", () => {
  const buttons = (scene: MoneyScene) => steps(status(scene))?.map((step) => step.buttons);

  it("is named in order, each with its button", () => {
    expect(steps(status("nocoin"))?.map(({ what, done }) => [what, done])).toEqual([
      ["coin", false],
      ["token", false],
      ["deposit", false],
    ]);
    expect(buttons("nocoin")).toEqual([["receive"], ["receive"], ["deposit"]]);
    // The faucet takes a fee in coin.
    expect(buttons("notoken")).toEqual([[], ["faucet", "receive"], ["deposit"]]);
    expect(buttons("tokenonly")).toEqual([["receive", "sign_start"], [], ["deposit"]]);
    expect(buttons("signed")?.[0]).toEqual(["receive"]);
  });

  it("lets the deposit wait for coin and token, and for nothing else", () => {
    const deposit = (scene: MoneyScene) => steps(status(scene))?.at(-1);
    expect(deposit("notoken")?.waits).toBe(true);
    const ready = { ...status("notoken"), accounts: status("paid").accounts.map((account) => ({ ...account, token: dgc("1"), coin: dgc("1") })) };
    expect(steps(ready)?.at(-1)?.waits).toBe(false);
  });

  it("is nothing after the first deposit, and nothing is guessed", () => {
    expect(steps(status("paid"))).toBeNull();
    expect(steps(status("nowallet"))).toBeNull();
    expect(steps({ ...status("nocoin"), vault: null })).toBeNull();
    expect(steps({ ...status("nocoin"), accounts: status("nocoin").accounts.map((account) => ({ ...account, coin: null })) })).toBeNull();
    const { network } = status("nocoin");
    expect(steps({ ...status("nocoin"), network: network && { ...network, state: "offline" } })).toBeNull();
  });

  it("takes no share that leaves nothing", () => {
    expect(shareProblem(0n, 5n)).toBeNull();
    expect(shareProblem(4n, 5n)).toBeNull();
    expect(shareProblem(5n, 5n)).toBe(t.wallet.badShare);
    expect(shareProblem(null, 5n)).toBe(t.money.badAmount);
  });
});

describe("meters", () => {
  it("show how far the cap of the day is used", () => {
    expect(dayCap(dgc("0.11"), { daily: dgc("0.5") })).toEqual({ used: 0.22, reached: false });
    expect(dayCap(dgc("0.5"), { daily: dgc("0.5") })).toEqual({ used: 1, reached: true });
    expect(dayCap(dgc("9"), { daily: "0" })).toEqual({ used: 0, reached: true });
    expect(dayCap(dgc("9"), { daily: null })).toBeNull();
    expect(dayCap(null, { daily: "1" })).toBeNull();
  });

  it("show how much of a grant is promised", () => {
    const vault = { free: "0", granted: "200", promised: "50", spent: "20", untilUnixS: null, bond: "0", ended: null };
    expect(grantUsed(vault)).toBe(0.25);
    expect(grantUsed({ ...vault, granted: "0" })).toBe(0);
  });
});

describe("what is typed", () => {
  it("is an amount above zero and within what is there", () => {
    expect(amountProblem(null, null, "DGC")).toBe(t.money.badAmount);
    expect(amountProblem(0n, null, "DGC")).toBe(t.money.badAmount);
    expect(amountProblem(2n, "1", "DGC")).toContain("0.000000000000000001 DGC");
    expect(amountProblem(1n, "1", "DGC")).toBeNull();
  });

  it("is a whole address", () => {
    expect(addressProblem(" 0x7a3E5c21d9A0f4B86e1c0D37f2a95B48c6E091c4 ")).toBeNull();
    for (const text of ["", "0x", "7a3E5c21d9A0f4B86e1c0D37f2a95B48c6E091c4", "0x7a3E5c21d9A0f4B86e1c0D37f2a95B48c6E091c", "0x7a3E5c21d9A0f4B86e1c0D37f2a95B48c6E091cg", "0x7a3E…91c4"]) {
      expect(addressProblem(text), text).not.toBeNull();
    }
  });
});
