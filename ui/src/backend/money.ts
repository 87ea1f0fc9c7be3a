// The views of money as the window uses them. Amounts are digits of base units (18 decimals): no float ever holds money.

export type Units = string;

export type NetworkState = "online" | "one_only" | "disagree" | "offline";

export type Endpoint = { host: string; block: number | null; problem: string | null };

export type NetworkView = {
  name: string;
  title: string;
  /** Every amount on it is worth nothing. */
  test: boolean;
  chainId: number;
  /** Of the token. */
  symbol: string;
  /** Symbol of the coin that fees are paid in. */
  coin: string;
  faucet: boolean;
  state: NetworkState;
  finalBlock: number | null;
  checkedUnixMs: number | null;
  endpoints: Endpoint[];
};

export type WalletState = "none" | "locked" | "unlocked";

export type AccountRole = "wallet" | "spend" | "operator" | "session";

export type Account = { role: AccountRole; address: string; path: string | null; coin: Units | null; token: Units | null };

export type VaultView = {
  /** Withdrawn at once. */
  free: Units;
  /** What this device's signer may promise. */
  granted: Units;
  /** Vouchered, neither claimed nor given back. */
  promised: Units;
  spent: Units;
  untilUnixS: number | null;
  bond: Units;
};

export type Earned = { checking: Units; available: Units; tooSmall: Units; paidOut: Units };

/** A range for the next 30 days, out of `days` days that were measured. */
export type Estimated = { low: Units; high: Units; days: number };

export type Caps = { perDay: Units | null; perChat: Units | null; price: Units | null };

/** Free asks and gives nothing; the other two earn, into the vault or into the wallet. */
export type Mode = "free" | "lend_and_spend" | "earn";

export type Problem = { code: string; message: string; fix: string | null };

/** What this computer asks for one model, per million tokens. */
export type PriceView = { model: string; input: Units; output: Units; basis: "median" | "yours" | "free"; offers: number; floor: Units | null };

export type OwnPrice = { input: Units; output: Units; floor: Units | null };

/** The person's own two figures; decimal text. Without `worth` nothing is shown net. */
export type Electricity = { currency: string; tariff: string; worth: string | null };

export type MoneyStatus = {
  network: NetworkView | null;
  wallet: WalletState;
  backedUp: boolean;
  locksUnixMs: number | null;
  accounts: Account[];
  vault: VaultView | null;
  earned: Earned | null;
  estimated: Estimated | null;
  today: Units | null;
  week: Units | null;
  month: Units | null;
  caps: Caps;
  spentToday: Units | null;
  mode: Mode;
  /** Earnings go into the vault, to be spent. */
  joined: boolean;
  prices: PriceView[];
  electricity: Electricity | null;
  problems: Problem[];
};

export type EarningsBy = "job" | "day" | "model" | "device";

export type EarningState = "checking" | "available" | "paid_out";

/** Fields that a grouping merges are null. */
export type EarningRow = {
  id: string | null;
  day: number | null;
  atUnixMs: number | null;
  model: string | null;
  device: string | null;
  jobs: number;
  tokensIn: number;
  tokensOut: number;
  earned: Units;
  /** Measured; null where it was not. */
  energyWh: number | null;
  state: EarningState | null;
  receiptId: string | null;
  voucher: boolean;
};

export type Proof = {
  job: string;
  receiptId: string | null;
  /** The payer's voucher that covers the job. */
  signed: {
    payer: string;
    payee: string;
    signer: string;
    vault: string;
    chainId: number;
    cumulative: Units;
    work: string;
    signature: string;
    valid: boolean;
  } | null;
  /** What the chain says; null is not checked. */
  chain: { claimed: Units; covered: boolean; block: number; checkedUnixMs: number; endpoints: number } | null;
};

export type Asset = { amount: Units; symbol: string };

export type TransactionState = "prepared" | "sent" | "mined" | "final" | "failed" | "replaced" | "lost";

export type TransactionView = {
  id: string;
  title: string;
  to: string;
  leaves: Asset[];
  fee: Units | null;
  state: TransactionState;
  hash: string | null;
  sentUnixMs: number;
  canSpeedUp: boolean;
  canCancel: boolean;
  /** Why it failed, or why it can be neither sped up nor cancelled. */
  why: string | null;
};

export type Receiving = { address: string; qrSvg: string };

/** What peers ask for one model now, per million tokens. */
export type OfferPrice = { model: string; inputLow: Units; inputHigh: Units; outputLow: Units; outputHigh: Units; offers: number };

export type Support = "for" | "against" | "abstain";

export type ChangeCode = "audit_rate" | "auditor_share" | "minimum_stake" | "slash" | "fee" | "model_add" | "model_remove" | "other";

/** Decoded from the calldata, never from the description. */
export type Change = { what: ChangeCode; now: string | null; then: string; onThisNode: string | null };

export type DecodedCall = { to: string; known: boolean; title: string; fields: { name: string; value: string }[] };

export type ProposalState = "upcoming" | "open" | "counting" | "closed";

export type Outcome = "passed" | "rejected" | "no_quorum" | "executed" | "cancelled";

export type ProposalView = {
  id: string;
  title: string;
  description: string;
  state: ProposalState;
  outcome: Outcome | null;
  startsUnixMs: number;
  endsUnixMs: number;
  etaUnixMs: number | null;
  for: Units;
  against: Units;
  abstain: Units;
  quorum: Units;
  myVote: Support | null;
  changes: Change[];
  calls: DecodedCall[];
};

export type NetworkParams = { auditRate: number; auditorShareBps: number; minimumStake: Units; slashBps: number; feeBps: number };

export type VoteStatus = {
  wrapped: Units;
  power: Units;
  delegate: string | null;
  /** Token of the wallet account that is not wrapped. */
  mine: Units | null;
  proposals: ProposalView[];
  params: NetworkParams;
};

/** What the signing window is opened for. */
export type Intent =
  | { kind: "create" }
  | { kind: "import" }
  | { kind: "unlock" }
  | { kind: "show_words" }
  | { kind: "confirm_words" }
  | { kind: "export" }
  | { kind: "change_password" }
  | { kind: "send"; to: string; asset: "token" | "coin"; amount: Units }
  | { kind: "deposit"; amount: Units }
  | { kind: "withdraw"; amount: Units }
  | { kind: "grant"; amount: Units; days: number }
  | { kind: "end_signer" }
  | { kind: "register_payee" }
  | { kind: "delegate"; to: string }
  | { kind: "wrap"; amount: Units }
  | { kind: "unwrap"; amount: Units }
  | { kind: "vote"; id: string; support: Support }
  | { kind: "propose"; title: string; description: string; changes: { what: string; value: string }[] };

export type Signed = "done" | "cancelled";
