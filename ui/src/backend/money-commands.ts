// The core's commands of money, in the shape of the generated ones (bindings.ts).
import { invoke } from "@tauri-apps/api/core";
import { listen } from "@tauri-apps/api/event";
import type {
  EarningRow,
  EarningsBy,
  Intent,
  MoneyStatus,
  OfferPrice,
  Proof,
  Receiving,
  Signed,
  TransactionView,
  VoteStatus,
} from "./money";
import type { ErrorView } from "./types";

type Reply<T> = Promise<{ status: "ok"; data: T } | { status: "error"; error: ErrorView }>;

async function call<T>(command: string, input?: Record<string, unknown>): Reply<T> {
  try {
    return { status: "ok", data: await invoke<T>(command, input) };
  } catch (cause) {
    if (cause instanceof Error) throw cause;
    // A command that this core does not have is refused with a bare sentence.
    if (typeof cause === "string") return { status: "error", error: { code: "unknown_command", message: cause, fix: null } };
    return { status: "error", error: cause as ErrorView };
  }
}

export const moneyCommands = {
  moneyStatus: () => call<MoneyStatus>("money_status"),
  earnings: (fromUnixMs: number, toUnixMs: number, by: EarningsBy) => call<EarningRow[]>("earnings", { fromUnixMs, toUnixMs, by }),
  proofOpen: (job: string) => call<Proof>("proof_open", { job }),
  statementSave: (format: "csv" | "json") => call<string | null>("statement_save", { format }),
  transactions: () => call<TransactionView[]>("transactions"),
  moneyReceive: (role: "wallet" | "spend") => call<Receiving>("money_receive", { role }),
  moneyOffers: () => call<OfferPrice[]>("money_offers"),
  voteStatus: () => call<VoteStatus>("vote_status"),
  walletLock: () => call<null>("wallet_lock"),
  signOpen: (intent: Intent) => call<Signed>("sign_open", { intent }),
};

export const moneyChanged = (listener: (status: MoneyStatus) => void): Promise<() => void> => listen<MoneyStatus>("money-changed", (event) => listener(event.payload));
