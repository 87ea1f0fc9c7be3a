// A core of pretend for pictures and browser tests: it keeps the refusals of the real one.
import { type Asked, type Core, type Intent, type Preview, RefusalError, type WalletState } from "./core";

/** The words of BIP-39's own test vector for entropy of zeros: known to everybody, and worth nothing. */
export const WORDS = [...Array<string>(23).fill("abandon"), "art"];
export const PASSWORD = "correct horse";

const WALLET = "0x7a3E5c21d9A0f4B86e1c0D37f2a95B48c6E091c4";

export const PREVIEW: Preview = {
  digest: "0x5d1f0c9b7e3a42886d15ce07fa29b4e350c7d8166ab3f9e2041d8b57c6e3f0a9",
  title: "Send 1.5 DGC",
  to: "0x08C5eA1b7F36d9420a8B7fE1c93d50462fBa9D31",
  known: true,
  leaves: [{ amount: "1500000000000000000", symbol: "DGC" }],
  feeMax: "214000000000001",
  coinAfter: "41200000000000000",
  tokenAfter: "11250000000000000000",
  fields: [
    { name: "to", value: "0x08C5eA1b7F36d9420a8B7fE1c93d50462fBa9D31" },
    { name: "value", value: "1500000000000000000" },
  ],
  simulation: "ok",
  reason: null,
  network: { title: "Development network", test: true, symbol: "DGC", coin: "ETH" },
};

export type Log = { name: string; input?: unknown }[];

const refuse = (code: string, message: string, fix: string | null = null): never => {
  throw new RefusalError({ code, message, fix });
};

/** `log` gathers what was asked of it, in order. */
export function demoCore(intent: Intent, wallet: WalletState, previews: Preview[] = [PREVIEW], log: Log = []): Core {
  let state = wallet;
  let shown: Preview | null = null;
  /** They were shown, or their password was typed. */
  let words = false;
  const open = (password: string) => (password === PASSWORD ? null : refuse("wallet_wrong_password", "The password is wrong.", "Try again; capital letters count."));
  const note = (name: string, input?: unknown) => void log.push({ name, input });
  return {
    intent: async (): Promise<Asked> => ({ intent, wallet: state, backedUp: false, accounts: [{ role: "wallet", address: WALLET, path: "m/44'/60'/0'/0/0" }] }),
    preview: async () => {
      // A deposit carries a permit.
      if (intent.kind === "deposit" && state === "locked") refuse("wallet_locked", "The wallet is locked.", "Unlock it first.");
      shown = previews.length > 1 ? (previews.shift() ?? PREVIEW) : (previews[0] ?? PREVIEW);
      return shown;
    },
    confirm: async (digest, password) => {
      if (state === "locked") open(password ?? "");
      if (previews[0] !== shown) refuse("changed", "The chain moved on.");
      note("confirm", digest);
    },
    cancel: async () => note("cancel"),
    finish: async () => note("finish"),
    create: async (password) => {
      if (state !== "none") refuse("wallet_exists", "There is a wallet already.");
      state = "unlocked";
      note("create", password.length);
    },
    importWords: async (words) => {
      if (words !== WORDS.join(" ")) refuse("words_wrong", "These words do not belong together.", "Look for a wrong or a swapped word.");
      note("import");
    },
    importFile: async (file) => {
      if (!file.startsWith("{")) refuse("key_file_foreign", "This is no Web3 key file.");
      note("import");
    },
    unlock: async (password) => {
      open(password);
      state = "unlocked";
      note("unlock");
    },
    remember: async (password) => {
      open(password);
      note("remember");
    },
    changePassword: async (old) => {
      open(old);
      note("change");
    },
    words: async (password) => {
      if (intent.kind !== "create") open(password);
      words = true;
      return WORDS;
    },
    ask: async (password) => {
      if (password !== null) open(password);
      else if (!words) refuse("words_not_asked", "No words are being asked for.");
      words = true;
      return [3, 11, 24];
    },
    check: async (typed) => typed.join(" ") === "abandon abandon art",
    exportFile: async (password) => {
      open(password);
      return "~/Documents/wallet.json";
    },
  };
}
