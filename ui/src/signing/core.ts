// What the signing window may ask of the core: these commands and no other (capability `signing`).
import { type Asked, commands, type ErrorView, type Preview } from "./bindings";

export type { Asked, ErrorView, Intent, Preview, WalletState } from "./bindings";

export class RefusalError extends Error {
  constructor(readonly view: ErrorView) {
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
  remember(password: string): Promise<void>;
  changePassword(old: string, fresh: string): Promise<void>;
  words(password: string): Promise<string[]>;
  /** Positions of the words to ask back, from 1. The password is needed where they were not shown before. */
  ask(password: string | null): Promise<number[]>;
  check(words: string[]): Promise<boolean>;
  /** The path written; null when the person saved nothing. */
  exportFile(password: string, filePassword: string): Promise<string | null>;
}

type Reply<T> = { status: "ok"; data: T } | { status: "error"; error: unknown };

async function value<T>(reply: Promise<Reply<T>>): Promise<T> {
  const result = await reply;
  if (result.status === "error") throw new RefusalError(refusal(result.error));
  return result.data;
}

async function done(reply: Promise<Reply<unknown>>): Promise<void> {
  await value(reply);
}

/** Whatever was thrown, as something that can be shown. */
export function refusal(cause: unknown): ErrorView {
  if (cause instanceof RefusalError) return cause.view;
  if (typeof cause === "object" && cause !== null && "code" in cause && "message" in cause) return cause as ErrorView;
  return { code: "unknown", message: cause instanceof Error ? cause.message : String(cause), fix: null };
}

export const tauriCore: Core = {
  intent: () => value(commands.signIntent()),
  preview: () => value(commands.signPreview()),
  confirm: (digest, password) => done(commands.signConfirm(digest, password)),
  cancel: () => done(commands.signCancel()),
  finish: () => done(commands.signFinish()),
  create: (password) => done(commands.walletCreate(password)),
  importWords: (words, password) => done(commands.walletImport(words, password)),
  importFile: (file, filePassword, password) => done(commands.walletImportV3(file, filePassword, password)),
  unlock: (password) => done(commands.walletUnlock(password)),
  remember: (password) => done(commands.walletRemember(password)),
  changePassword: (old, fresh) => done(commands.walletChangePassword(old, fresh)),
  words: (password) => value(commands.wordsShow(password)),
  ask: (password) => value(commands.wordsAsk(password)),
  check: (words) => value(commands.wordsCheck(words)),
  exportFile: (password, filePassword) => value(commands.walletExport(password, filePassword)),
};
