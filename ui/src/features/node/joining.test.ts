import { describe, expect, it } from "vitest";
import type { Joined, Mode, MoneyStatus } from "../../backend/types";
import { moneyStatus } from "../../demo/money";
import { t } from "../../text";
import { joining } from "./joining";

const paid = moneyStatus("paid", 0);
const said = (joined: Joined | null, mode: Mode = "lend_and_spend", change: Partial<MoneyStatus> = {}) => joining({ ...paid, mode, joined, ...change });

describe("earning and spending as one account", () => {
  it("says where claims go, and offers the step that changes it", () => {
    expect(said("no")).toEqual({ text: t.modes.apart, note: t.modes.joinNote, join: true, unjoin: false, why: null });
    expect(said("yes")).toMatchObject({ text: t.modes.joined, join: false, unjoin: true });
    expect(said("elsewhere")).toMatchObject({ text: t.modes.elsewhere, join: true, unjoin: true });
  });

  it("says that the node's key comes first", () => {
    const first = said("unregistered");
    expect(first).toMatchObject({ join: false, unjoin: false, why: null });
    expect(first?.text).toContain("ETH");
  });

  it("is silent where claims go to the wallet and are meant to, or where nothing is known", () => {
    expect(said("no", "earn")).toBeNull();
    expect(said("unregistered", "earn")).toBeNull();
    expect(said(null)).toBeNull();
  });

  it("speaks up where claims still stay in the vault and asking is paid from elsewhere", () => {
    expect(said("elsewhere", "earn")).toMatchObject({ join: false, unjoin: true });
  });

  it("has no dead button without its reason", () => {
    const accounts = paid.accounts.map((account) => (account.role === "wallet" ? { ...account, coin: "0" } : account));
    expect(said("no", "lend_and_spend", { accounts })?.why).toBe(t.wallet.reason(t.modes.join, t.wallet.whyNoCoin("ETH", t.wallet.roles.wallet)));
  });
});
