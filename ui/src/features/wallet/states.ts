// What can be done with money now, and why not: no button is dead without its reason.
import type { Account, AccountRole, MoneySettings, MoneyStatus, NetworkView, Problem, Settings, TransactionState, VaultView } from "../../backend/types";
import { amount, isZero, share } from "../../lib/amount";
import { exact } from "../../lib/format";
import { t } from "../../text";

export type Action = "receive" | "send" | "deposit" | "withdraw" | "grant";

/** Null where the action can be taken. */
export type Reasons = Record<Action, string | null>;

/** A chain of reasons, the first one that holds is said. */
export function reasons(status: MoneyStatus): Reasons {
  const of = (role: AccountRole) => status.accounts.find((account) => account.role === role) ?? null;
  const wallet = of("wallet");
  const payer = of(payerRole(status));
  const symbol = status.network?.symbol ?? "";
  const none = status.wallet === "none" || wallet === null ? t.wallet.whyNoWallet : null;
  const waits = none ?? offline(status.network);
  const fee = (account: Account | null) =>
    waits ?? (!account || account.coin === null ? t.wallet.whyNotKnown : isZero(account.coin) ? t.wallet.whyNoCoin(status.network?.coin ?? "", t.wallet.roles[account.role]) : null);
  const vaultEmpty = (units: string | null) => (isZero(units) ? t.wallet.whyVaultEmpty : null);
  const noToken = !payer || payer.token === null ? t.wallet.whyNotKnown : isZero(payer.token) ? t.wallet.whyNoToken(symbol, t.wallet.roles[payer.role]) : null;
  return {
    receive: none,
    send: fee(wallet),
    deposit: fee(payer) ?? noToken,
    withdraw: fee(payer) ?? vaultEmpty(withdrawable(status.vault)),
    grant: fee(payer) ?? vaultEmpty(status.vault?.free ?? null),
  };
}

/** What can be withdrawn: what is free, and what ended keys give back, which is taken first. */
export function withdrawable(vault: VaultView | null): string | null {
  return vault === null ? null : String(BigInt(vault.free) + BigInt(vault.ended?.due ?? "0"));
}

/** When what ended keys have left can be taken out. */
export function endedNote({ left, due, nextUnixS }: NonNullable<VaultView["ended"]>): string {
  const now = isZero(due) ? null : due === left ? t.wallet.endedAll : t.wallet.endedPart;
  const later = nextUnixS === null ? null : t.wallet.endedFrom(exact(nextUnixS * 1000));
  return [now, later].filter((part) => part !== null).join("; ") || t.wallet.endedWaits;
}

/** Asking is paid from an account of its own, unless what is earned is spent. */
export function payerRole(status: MoneyStatus): "wallet" | "spend" {
  return status.mode === "lend_and_spend" ? "wallet" : "spend";
}

/** Why nothing can be sent over this network now. */
export function offline(network: NetworkView | null): string | null {
  if (network === null || network.state === "offline") return t.wallet.whyOffline;
  return network.state === "disagree" ? t.wallet.whyDisagree : null;
}

/** The reasons to read beside the buttons, each once: the same cause is not repeated for every action. */
export function sayReasons(of: Reasons, actions: readonly Action[]): string[] {
  const causes = new Map<string, Action[]>();
  for (const action of actions) {
    const why = of[action];
    if (why !== null) causes.set(why, [...(causes.get(why) ?? []), action]);
  }
  return [...causes].map(([why, blocked]) => t.wallet.reason(blocked.map((action) => t.wallet.reasonNames[action]).join(", "), why));
}

export type Tone = "plain" | "warn" | "bad";

export function networkSaid(network: NetworkView): { tone: Tone; text: string } {
  switch (network.state) {
    case "online":
      return { tone: "plain", text: t.wallet.networkOnline(network.endpoints.filter((endpoint) => endpoint.problem === null).length) };
    case "one_only":
      return { tone: "warn", text: t.wallet.networkOne };
    case "disagree":
      return { tone: "bad", text: t.wallet.networkDisagree(network.endpoints.length) };
    case "offline":
      return { tone: "bad", text: t.wallet.networkOffline };
  }
}

export const marks: Record<TransactionState, string> = {
  prepared: "bg-sunken text-ink-2",
  sent: "bg-warn-soft text-warn",
  mined: "bg-accent-soft text-accent",
  final: "bg-sunken text-ink-2",
  failed: "bg-bad-soft text-bad",
  replaced: "bg-sunken text-ink-2",
  lost: "bg-bad-soft text-bad",
};

/** How much of what this device was granted it has promised, in 0..1; what was claimed is a part of that. */
export function grantUsed(vault: VaultView): number {
  return Math.min(1, share(vault.promised, vault.granted));
}

/** What the page can do about a problem itself. */
export type Remedy = "create" | "faucet" | "receive" | "fund_operator" | "back_up" | null;

export function remedy(problem: Problem, status: MoneyStatus): Remedy {
  switch (problem.code) {
    case "no_wallet":
      return "create";
    case "no_coin":
      return "receive";
    case "no_coin_operator":
      return "fund_operator";
    case "no_token": {
      // The faucet gives tokens alone, and asking it costs a fee.
      const coin = status.accounts.find((account) => account.role === payerRole(status))?.coin ?? null;
      return status.network?.faucet && !isZero(coin) ? "faucet" : "receive";
    }
    case "not_backed_up":
      return "back_up";
    default:
      return null;
  }
}

export type StepButton = "receive" | "faucet" | "deposit" | "sign_start";

/** `waits`: it needs what stands above it. */
export type Step = { what: "coin" | "token" | "deposit"; done: boolean; waits: boolean; buttons: StepButton[] };

/** What stands between this wallet and its first paid answer, in order; null where nothing does, or where it is not known. */
export function steps(status: MoneyStatus): Step[] | null {
  if (status.wallet === "none" || status.vault === null || !isZero(status.vault.granted) || offline(status.network) !== null) return null;
  const payer = status.accounts.find((account) => account.role === payerRole(status));
  if (!payer || payer.coin === null || payer.token === null) return null;
  const coin = !isZero(payer.coin);
  const token = !isZero(payer.token);
  return [
    { what: "coin", done: coin, waits: false, buttons: coin ? [] : token && status.start === null ? ["receive", "sign_start"] : ["receive"] },
    // The faucet gives tokens alone, and asking it costs a fee.
    { what: "token", done: token, waits: false, buttons: token ? [] : status.network?.faucet && coin ? ["faucet", "receive"] : ["receive"] },
    { what: "deposit", done: false, waits: !coin || !token, buttons: ["deposit"] },
  ];
}

/** Said in a place of their own. */
const ELSEWHERE = ["no_wallet", "not_backed_up", "chain_offline", "chain_disagrees"];

/** Without those that the page says in a place of their own; what is a step is said there. */
export function shownProblems(status: MoneyStatus): Problem[] {
  const elsewhere = steps(status) === null ? ELSEWHERE : [...ELSEWHERE, "no_coin", "no_token"];
  return status.problems.filter((problem) => !elsewhere.includes(problem.code));
}

/** What limits spending. */
export type Cap = "daily" | "chat" | "price";

export function caps(settings: Settings): Record<Cap, string | null> {
  return { daily: settings.money.daily, chat: settings.money.chat, price: settings.priceCap };
}

export type DayCap = { used: number; reached: boolean };

/** How far the cap of the day is used; null without a cap or without a figure. */
export function dayCap(spentToday: string | null, caps: Pick<MoneySettings, "daily">): DayCap | null {
  if (caps.daily === null || spentToday === null) return null;
  return { used: Math.min(1, share(spentToday, caps.daily)), reached: BigInt(spentToday) >= BigInt(caps.daily) };
}

/** What a field for an amount says about it; null where it is good. */
export function amountProblem(value: bigint | null, most: string | null, unit: string): string | null {
  if (value === null || value === 0n) return t.money.badAmount;
  return most !== null && value > BigInt(most) ? t.money.tooMuch(`${amount(most)} ${unit}`) : null;
}

/** What a field for the share of who brings a deposit says about it; null where it is good. */
export function shareProblem(share: bigint | null, deposit: bigint | null): string | null {
  if (share === null) return t.money.badAmount;
  return deposit !== null && share > 0n && share >= deposit ? t.wallet.badShare : null;
}

export function addressProblem(text: string): string | null {
  return /^0x[0-9a-fA-F]{40}$/.test(text.trim()) ? null : t.wallet.badAddress;
}
