// What the signing window may ask of the core: these commands and no other (capability `signing`).
import { invoke } from "@tauri-apps/api/core";
import type { AccountRole, Intent, WalletState } from "../backend/money";

export type Asked = {
  intent: Intent;
  wallet: WalletState;
  backedUp: boolean;
  accounts: { role: AccountRole; address: string; path: string | null }[];
};

/** Amounts are digits of base units. */
export type Preview = {
  /** Binds all of it: what is confirmed is what was shown. */
  digest: string;
  title: string;
  to: string;
  /** The contract is one of the network file. */
  known: boolean;
  leaves: { amount: string; symbol: string }[];
  feeMax: string;
  coinAfter: string;
  tokenAfter: string;
  fields: { name: string; value: string }[];
  simulation: "ok" | "reverts";
  reason: string | null;
  network: { title: string; test: boolean; symbol: string; coin: string };
};

export type Refusal = { code: string; message: string; fix: string | null };

export class RefusalError extends Error {
  constructor(readonly view: Refusal) {
    super(view.message);
    this.name = "RefusalError";
  }
}

/** Every method rejects with {@link RefusalError}. */
export interface Core {
  intent(): Promise<Asked>;
  preview(): Promise<Preview>;
  confirm(digest: string, password: string | null): Promise<void>;
  cancel(): Promise<void>;
  finish(): Promise<void>;
  create(password: string): Promise<void>;
  importWords(words: string, password: string): Promise<void>;
  importFile(file: string, filePassword: string, password: string): Promise<void>;
  unlock(password: string): Promise<void>;
  changePassword(old: string, fresh: string): Promise<void>;
  words(password: string): Promise<string[]>;
  /** Positions of the words to ask back, from 1. */
  ask(): Promise<number[]>;
  check(words: string[]): Promise<boolean>;
  /** The path written; null when the person saved nothing. */
  exportFile(password: string, filePassword: string): Promise<string | null>;
}

async function call<T>(command: string, input?: Record<string, unknown>): Promise<T> {
  try {
    return await invoke<T>(command, input);
  } catch (cause) {
    throw new RefusalError(refusal(cause));
  }
}

/** Whatever was thrown, as something that can be shown. */
export function refusal(cause: unknown): Refusal {
  if (cause instanceof RefusalError) return cause.view;
  if (typeof cause === "object" && cause !== null && "code" in cause && "message" in cause) return cause as Refusal;
  return { code: "unknown", message: cause instanceof Error ? cause.message : String(cause), fix: null };
}

export const tauriCore: Core = {
  intent: () => call("sign_intent"),
  preview: () => call("sign_preview"),
  confirm: (digest, password) => call("sign_confirm", { digest, password }),
  cancel: () => call("sign_cancel"),
  finish: () => call("sign_finish"),
  create: (password) => call("wallet_create", { password }),
  importWords: (words, password) => call("wallet_import", { words, password }),
  importFile: (file, filePassword, password) => call("wallet_import_v3", { file, filePassword, password }),
  unlock: (password) => call("wallet_unlock", { password }),
  changePassword: (old, fresh) => call("wallet_change_password", { old, fresh }),
  words: (password) => call("words_show", { password }),
  ask: () => call("words_ask"),
  check: (words) => call("words_check", { words }),
  exportFile: (password, filePassword) => call("wallet_export", { password, filePassword }),
};
