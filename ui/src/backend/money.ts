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
  /** When that block was made. */
  finalUnixS: number | null;
  endpoints: Endpoint[];
};

export type WalletState = "none" | "locked" | "unlocked";

export type AccountRole = "wallet" | "spend" | "operator" | "session";

export type Account = { role: AccountRole; address: string; path: string | null; coin: Units | null; token: Units | null };

export type VaultView = {
  /** Withdrawn at once. */
  free: Units;
  /** What this device's signer was granted, ever. */
  granted: Units;
  /** What it promised, ever. */
  promised: Units;
  /** What of that was claimed. */
  spent: Units;
  /** Null before there is a grant. */
  untilUnixS: number | null;
  bond: Units;
  /** What keys that have ended have left; null where they have nothing. */
  ended: {
    /** All of it; payees may still claim of it. */
    left: Units;
    /** The part that can be taken back now. */
    due: Units;
    /** When the next part can be. */
    nextUnixS: number | null;
  } | null;
};

/** The four words, what is beneath them, and what was vouchered by days (UTC). */
export type Earned = {
  checking: Units;
  available: Units;
  tooSmall: Units;
  paidOut: Units;
  /** What of it the network's fee took. */
  fees: Units;
  /** What of it reached the wallet. */
  paidNet: Units;
  /** What would reach it of what is available; null while the fee is not known. */
  availableNet: Units | null;
  /** Never to be collected any more. */
  lost: Units;
  today: Units;
  week: Units;
  month: Units;
};

/** Free asks and gives nothing; the other two earn, and ask from the same account or from one apart. */
export type Mode = "free" | "lend_and_spend" | "earn";

/** Where this node's claims go: nowhere yet, to the wallet, into what this device may spend, or to somebody else. */
export type Joined = "unregistered" | "no" | "yes" | "elsewhere";

export type Problem = { code: string; message: string; fix: string | null };

/** What is asked for one model, in the place of what is asked for all. */
export type ModelPrice = {
  /** Per million tokens written; null is the median of the offers. */
  price: Units | null;
  /** The least that is asked where the median is taken. */
  floor: Units | null;
};

/** What the person set about money; a part of the settings. */
export type MoneySettings = {
  network: string | null;
  mode: Mode;
  /** What is asked per million tokens written; null is the median of the offers that are seen. */
  price: Units | null;
  /** The least that is asked where the median is taken. */
  floor: Units | null;
  /** What a token in the cache costs, in percent of one that is read; null is the core's own. */
  cached: number | null;
  /** The most of a day; null is as much as was granted. */
  daily: Units | null;
  /** The most of a chat. */
  chat: Units | null;
  /** Minutes until an idle wallet locks; 0 is never, null is the core's own. */
  lock: number | null;
  /** The person's own two figures: what a kilowatt-hour costs, and what one token is worth to them. */
  tariff: number | null;
  worth: number | null;
  /** What that money is called. */
  currency: string | null;
  /** Watts that this computer draws more while it answers; counts where it has no meter. */
  watts: number | null;
  /** Other prices for single models, by their ids. */
  models: Record<string, ModelPrice>;
  /** The highest price that is paid for single models, by their ids, in the place of the one for all. */
  caps: Record<string, Units>;
};

/** A model that the vote lists; `model` is the id of its row here, null where there is none. */
export type ListedModel = { digest: string; licence: string; family: string; model: string | null };

/** What votes have set, as of a final block. Shares are parts of 10,000. */
export type Rules = { feeBps: number; auditRate: number; auditorShareBps: number; slashBps: number; minimumStake: Units; block: number; listed: ListedModel[] };

export type MoneyStatus = {
  network: NetworkView | null;
  wallet: WalletState;
  backedUp: boolean;
  locksUnixMs: number | null;
  /** The keychain of this computer keeps what opens it. */
  remembered: boolean;
  accounts: Account[];
  vault: VaultView | null;
  earned: Earned | null;
  /** Null before it was read. */
  rules: Rules | null;
  /** A first deposit that was signed here and waits for somebody to bring it. */
  start: { deposit: Units; fee: Units; deadlineUnixS: number } | null;
  spentToday: Units | null;
  mode: Mode;
  /** Null where there are no claims, or the chain does not say now. */
  joined: Joined | null;
  problems: Problem[];
};

export type EarningsBy = "job" | "day" | "model" | "device" | "total";

export type EarningState = "checking" | "available" | "too_small" | "paid_out" | "lost";

/** Fields that a grouping merges are null. */
export type EarningRow = {
  /** Of the job; its receipt and its proof have the same name. */
  job: string | null;
  day: number | null;
  atUnixMs: number | null;
  model: string | null;
  /** Operator address of the machine. */
  device: string | null;
  jobs: number;
  tokensIn: number;
  tokensOut: number;
  earned: Units;
  /** Of the answers whose energy is known; null where none is. */
  energyKwh: number | null;
  /** Answers that meters counted, and answers that the person's own figure stands for. */
  metered: number;
  stated: number;
  /** In the person's own money; null where it cannot be said. */
  cost: number | null;
  /** What is left after the fee and that cost. */
  net: number | null;
  /** Where most of it is. */
  state: EarningState | null;
};

/** What answering took in a stretch of time, as far as it is known. */
export type EnergyUsed = { paid: EnergyPart; free: EnergyPart };

/** `kwh` null: of no answer it is known; `cost` null: it cannot be said. */
export type EnergyPart = { metered: number; stated: number; kwh: number | null; cost: number | null };

export type Proof = {
  job: string;
  /** A receipt of it is kept. */
  receipt: boolean;
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
  chain: OnChain | null;
};

/** What the chain says of a voucher's line; null is not checked. Covered is what is paid already, or what the signer has left pays. */
export type OnChain = { claimed: Units; covered: boolean; block: number; checkedUnixMs: number; endpoints: number };

/** What paid for an answer that this computer asked for; no voucher: it cost nothing. */
export type Payment = { job: string; receipt: boolean; vouchers: PaidVoucher[] };

/** The last voucher that one key of this computer signed for it. */
export type PaidVoucher = {
  payer: string;
  payee: string;
  signer: string;
  vault: string;
  chainId: number;
  atUnixMs: number;
  /** What this answer cost by it. */
  paid: Units;
  /** All that was promised between the two until then. */
  cumulative: Units;
  work: string;
  /** Made anew and checked; null where that key is not here any more. */
  signature: string | null;
  /** The reservation that stood when it was signed. */
  reservation: { upto: Units; untilUnixS: number; nonce: number; signature: string | null } | null;
  chain: OnChain | null;
};

export type Asset = { amount: Units; symbol: string };

export type TransactionState = "prepared" | "sent" | "mined" | "final" | "failed" | "replaced" | "lost";

export type TransactionView = {
  id: string;
  title: string;
  from: string;
  to: string;
  leaves: Asset[];
  /** The most that it costs. */
  feeMax: Units;
  state: TransactionState;
  /** Of its newest form; empty before there is one. */
  hash: string;
  sentUnixMs: number;
  /** It can be sent again at a higher price, or taken back. */
  replaceable: boolean;
  /** Why it failed, or what explains that it waits. */
  why: string | null;
};

export type Receiving = { address: string; qrSvg: string };

/** What peers ask for one model now, per million tokens. */
export type OfferPrice = { model: string; inputLow: Units; inputHigh: Units; outputLow: Units; outputHigh: Units; offers: number };

/** What this computer asks for a model that it lends, per million tokens; `own` null: as for all. */
export type AskedPrice = { model: string; input: Units; output: Units; offers: number; own: ModelPrice | null };

export type Support = "for" | "against" | "abstain";

export type ChangeCode = "audit_rate" | "auditor_share" | "minimum_stake" | "slash" | "fee" | "model_add" | "model_remove" | "other";

/** Decoded from the calldata, never from the description. `used`: something here follows it; `onThisNode` null: it means nothing here. */
export type Change = { what: ChangeCode; now: string | null; then: string; used: boolean; onThisNode: string | null };

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
  /** What anybody can do now to bring it into force. */
  next: "queue" | "execute" | null;
  for: Units;
  against: Units;
  abstain: Units;
  quorum: Units | null;
  /** The wallet's account has voted. */
  voted: boolean;
  /** Its weight in this vote: what it had when voting began. */
  weight: Units;
  changes: Change[];
  calls: DecodedCall[];
};

export type VoteStatus = {
  wrapped: Units;
  power: Units;
  delegate: string | null;
  /** Token of the wallet account that is not wrapped. */
  mine: Units | null;
  /** What a proposer needs. */
  threshold: Units;
  proposals: ProposalView[];
  params: Rules;
};

/** What the signing window is opened for. */
export type Intent =
  | { kind: "create" }
  | { kind: "import" }
  | { kind: "unlock" }
  | { kind: "show_words" }
  | { kind: "confirm_words" }
  | { kind: "export" }
  | { kind: "remember" }
  | { kind: "change_password" }
  | { kind: "send"; to: string; asset: "token" | "coin"; amount: Units }
  | { kind: "deposit"; amount: Units }
  | { kind: "withdraw"; amount: Units }
  | { kind: "grant"; amount: Units; days: number }
  | { kind: "end_signer" }
  | { kind: "register_payee" }
  | { kind: "join" }
  | { kind: "unjoin" }
  | { kind: "delegate"; to: string }
  | { kind: "wrap"; amount: Units }
  | { kind: "unwrap"; amount: Units }
  | { kind: "vote"; id: string; support: Support }
  | { kind: "queue"; id: string }
  | { kind: "execute"; id: string }
  | { kind: "sign_start"; amount: Units; fee: Units }
  | { kind: "relay"; start: string }
  | { kind: "faucet" }
  | { kind: "speed_up"; id: string }
  | { kind: "cancel"; id: string }
  | { kind: "propose"; title: string; description: string; changes: { what: string; value: string }[] };

export type Signed = "done" | "cancelled";
