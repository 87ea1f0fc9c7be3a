// Money of the demo: a devnet after a month of lending, and the states in which something is missing.
import type {
  Account,
  AskedPrice,
  DecodedCall,
  EarningRow,
  EarningsBy,
  EnergyUsed,
  Meter,
  MoneyStatus,
  OfferPrice,
  Payment,
  Problem,
  Proof,
  ProposalView,
  Rules,
  TransactionView,
  Units,
  VoteStatus,
} from "../backend/types";
import { parse, sum } from "../lib/amount";
import { DAY, MINUTE } from "./chats";

/** off: no network file. nowallet, nocoin, notoken, disagree, offline, locked: what may be missing. tokenonly, signed: tokens without coin, before and after a deposit was signed for somebody else to bring. quiet: nothing earned yet. paid: all of it. */
export type MoneyScene = "off" | "nowallet" | "nocoin" | "tokenonly" | "signed" | "disagree" | "offline" | "locked" | "notoken" | "quiet" | "paid";

/** An amount written as a person does. */
export function dgc(text: string): Units {
  const units = parse(text);
  if (units === null) throw new Error(`${text} is no amount`);
  return units.toString();
}

/** What the person of the demo set. */
export const LIMITS = { daily: dgc("0.5"), chat: dgc("0.05"), floor: dgc("0.1"), tariff: 0.31, worth: 0.35, currency: "€", models: { "llama-3.2-3b-instruct": { price: dgc("0.4"), floor: null } }, caps: { "smollm2-135m": dgc("0.25") } };
export const PRICE_CAP = dgc("4");

const HOUR = 60 * MINUTE;
export const WALLET = "0x7a3E5c21d9A0f4B86e1c0D37f2a95B48c6E091c4";
const SPEND = "0x51F0b7c2A94d3E86f05a1B7d92cE4836aD10f7B2";
const OPERATOR = "0x9c4De81F7a02B35d6E9f0A1c84B27d5630fEa812";
const SESSION = "0xE2b6A90d4c7F1835aB6e0D92f4C71a8530d9B6f4";
const PAYER = "0x3dA71f9C0b82E64a5F1d7c93B06eA248f95C0d17";
const VAULT = "0xB7a2C0f41d93E85b6A07f1D28c4e59a306Fd7e90";
const FRIEND = "0x08C5eA1b7F36d9420a8B7fE1c93d50462fBa9D31";

const accounts = (coin: Units, token: Units): Account[] => [
  { role: "wallet", address: WALLET, path: "m/44'/60'/0'/0/0", coin, token },
  { role: "spend", address: SPEND, path: "m/44'/60'/1'/0/0", coin: dgc("0.0119"), token: dgc("0") },
  { role: "operator", address: OPERATOR, path: null, coin: dgc("0.0184"), token: null },
  { role: "session", address: SESSION, path: null, coin: null, token: null },
];

const RULES: Rules = {
  feeBps: 200,
  auditRate: 100,
  auditorShareBps: 2000,
  slashBps: 1000,
  minimumStake: dgc("500"),
  block: 18_204,
  listed: [
    { digest: "3f1c", licence: "Apache-2.0", family: "llama", model: "smollm2-135m" },
    { digest: "9b02", licence: "Llama 3.2 Community", family: "llama", model: null },
  ],
};

/** The computer of the scene that has everything has a meter that can be read; the others have one that cannot. */
export function meter(scene: MoneyScene): Meter {
  if (scene === "paid") return { kind: "metered", detail: "The processor's own meter counts (RAPL).", fix: null, idleMw: 11_400, nowMw: 57_260 };
  return {
    kind: "none",
    detail: "The processor has a meter (RAPL), and only root may read it.",
    fix: "Let it be read until the next start: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj. Every program here can read it then, and from it guess at what others compute.",
    idleMw: null,
    nowMw: null,
  };
}

/** What the answers of these rows took, and two for nothing. */
export function energyUsed(rows: EarningRow[]): EnergyUsed {
  const sum = (of: (row: EarningRow) => number) => rows.reduce((all, row) => all + of(row), 0);
  if (rows.length === 0) return { paid: { metered: 0, stated: 0, kwh: null, cost: null }, free: { metered: 0, stated: 0, kwh: null, cost: null } };
  return {
    paid: { metered: rows.length, stated: 0, kwh: sum((row) => row.energyKwh ?? 0), cost: sum((row) => row.cost ?? 0) },
    free: { metered: 2, stated: 0, kwh: 0.024, cost: 0.024 * LIMITS.tariff },
  };
}

const problem = (code: string, message: string, fix: string | null): Problem => ({ code, message, fix });

export function moneyStatus(scene: MoneyScene, now: number): MoneyStatus {
  const nothing: MoneyStatus = {
    network: null,
    wallet: "none",
    backedUp: false,
    locksUnixMs: null,
    remembered: false,
    accounts: [],
    vault: null,
    earned: null,
    rules: null,
    start: null,
    spentToday: null,
    mode: "free",
    joined: null,
    problems: [],
  };
  if (scene === "off") return nothing;
  const network: MoneyStatus["network"] = {
    name: "devnet",
    title: "Development network",
    test: true,
    chainId: 31_337,
    symbol: "DGC",
    coin: "ETH",
    faucet: true,
    state: "online",
    finalBlock: 18_204,
    finalUnixS: Math.floor(now / 1000) - 120,
    endpoints: [
      { host: "127.0.0.1:8545", block: 18_206, problem: null },
      { host: "127.0.0.1:8546", block: 18_206, problem: null },
    ],
  };
  const bare: MoneyStatus = { ...nothing, network, problems: [problem("no_wallet", "There is no wallet yet.", null)] };
  if (scene === "nowallet") return bare;
  const fresh: MoneyStatus = {
    ...bare,
    rules: RULES,
    vault: { free: "0", granted: "0", promised: "0", spent: "0", untilUnixS: null, bond: "0", ended: null },
    wallet: "unlocked",
    locksUnixMs: now + 11 * MINUTE,
    accounts: accounts(dgc("0"), dgc("0")).map((account) => ({ ...account, coin: account.coin && dgc("0") })),
    earned: { checking: "0", available: "0", tooSmall: "0", paidOut: "0", fees: "0", paidNet: "0", availableNet: "0", lost: "0", today: "0", week: "0", month: "0" },
    spentToday: dgc("0"),
    problems: [
      problem("not_backed_up", "The words were not confirmed yet.", null),
      problem("no_coin", "There is no ETH for the fee of the first deposit.", "Receive a little at the account for asking."),
      problem("no_token", "There is no DGC to pay with.", "Receive some at the account for asking, or lend this computer and earn it."),
    ],
  };
  if (scene === "nocoin") return fresh;
  if (scene === "notoken") return { ...fresh, accounts: accounts(dgc("0.05"), "0"), problems: fresh.problems.filter(({ code }) => code !== "no_coin") };
  if (scene === "tokenonly" || scene === "signed") {
    const spend = (account: Account): Account => (account.role === "spend" ? { ...account, token: dgc("20") } : account);
    return {
      ...fresh,
      backedUp: true,
      mode: "earn",
      accounts: fresh.accounts.map(spend),
      start: scene === "signed" ? { deposit: dgc("5"), fee: dgc("0.05"), deadlineUnixS: Math.floor((now + 7 * DAY) / 1000) } : null,
      problems: [problem("no_coin", "There is no ETH for the fee of the first deposit.", "Receive a little at the account for asking.")],
    };
  }
  if (scene === "quiet") return { ...fresh, backedUp: true, mode: "earn", accounts: accounts(dgc("0.05"), dgc("2")), vault: null, problems: [] };
  const rows = jobs(now);
  const since = (ms: number) => sum(rows.filter((row) => (row.atUnixMs ?? 0) >= ms).map((row) => row.earned)).toString();
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  const full: MoneyStatus = {
    ...fresh,
    accounts: accounts(dgc("0.0412"), dgc("12.75")),
    vault: { free: dgc("1.25"), granted: dgc("2"), promised: dgc("0.6134"), spent: dgc("0.6071"), untilUnixS: Math.floor((now + 23 * DAY) / 1000), bond: dgc("0.05"), ended: { left: dgc("0.34"), due: dgc("0.3"), nextUnixS: Math.floor((now + 9 * DAY) / 1000) } },
    earned: {
      checking: dgc("0.0412"),
      available: dgc("2.604"),
      tooSmall: dgc("0.00213"),
      paidOut: dgc("6.2"),
      fees: dgc("0.124"),
      paidNet: dgc("6.076"),
      availableNet: dgc("2.55192"),
      lost: "0",
      today: since(midnight),
      week: since(midnight - 6 * DAY),
      month: since(midnight - 29 * DAY),
    },
    spentToday: dgc("0.11"),
    mode: "lend_and_spend",
    joined: "yes",
    problems: [problem("not_backed_up", "The words were not confirmed yet.", null)],
  };
  switch (scene) {
    case "disagree":
      return {
        ...full,
        network: {
          ...network,
          state: "disagree",
          finalUnixS: Math.floor(now / 1000) - 540,
          endpoints: [
            { host: "127.0.0.1:8545", block: 18_206, problem: null },
            { host: "127.0.0.1:8546", block: 18_199, problem: "It names another final block than the first one does." },
          ],
        },
      };
    case "offline":
      return {
        ...full,
        network: { ...network, state: "offline", finalUnixS: Math.floor(now / 1000) - 3 * 3600, endpoints: network.endpoints.map((endpoint) => ({ ...endpoint, block: null, problem: "The connection was refused." })) },
      };
    case "locked":
      return { ...full, wallet: "locked", locksUnixMs: null, backedUp: true, joined: "no", problems: [] };
    case "paid":
      return full;
  }
}

const MODELS = ["SmolLM2 135M", "Llama 3.2 3B"];
const DEVICES = [OPERATOR, "0x6F02b8C1d94E7a35D0f81cB2e67A940d5c3F8e16"];

/** One row per paid answer over the last 30 days; the same every time, so that pictures can be compared. */
export function jobs(now: number): EarningRow[] {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  const rows: EarningRow[] = [];
  for (let n = 0; n < 118; n++) {
    const at = n < 6 ? now - (n * 47 + 3) * MINUTE : now - (n - 5) * 6.2 * HOUR - ((n * 7919) % 97) * MINUTE;
    const tokensOut = 40 + ((n * 7919) % 1400);
    rows.push({
      job: `paid-${n}`,
      day: new Date(Math.min(at, now)).setHours(0, 0, 0, 0),
      atUnixMs: at,
      model: MODELS[n % 5 === 0 ? 1 : 0] ?? "",
      device: DEVICES[n % 7 === 0 ? 1 : 0] ?? "",
      jobs: 1,
      tokensIn: 60 + ((n * 104_729) % 900),
      tokensOut,
      earned: (BigInt(tokensOut) * 47_000_000_000_000n + BigInt((n * 31) % 1000)).toString(),
      energyKwh: tokensOut * 0.000_011,
      metered: 1,
      stated: 0,
      cost: tokensOut * 0.000_011 * LIMITS.tariff,
      net: tokensOut * (0.000_047 * 0.98 * LIMITS.worth - 0.000_011 * LIMITS.tariff),
      state: at > midnight ? (n < 3 ? "checking" : "available") : n < 40 ? "available" : "paid_out",
    });
  }
  return rows;
}

export function grouped(rows: EarningRow[], by: EarningsBy): EarningRow[] {
  if (by === "job") return rows;
  const groups = new Map<string, EarningRow[]>();
  for (const row of rows) {
    const key = by === "total" ? by : String(row[by]);
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups.values()].map((list) => ({
    job: null,
    day: by === "day" ? (list[0]?.day ?? null) : null,
    atUnixMs: null,
    model: by === "model" ? (list[0]?.model ?? null) : null,
    device: by === "device" ? (list[0]?.device ?? null) : null,
    jobs: list.length,
    tokensIn: list.reduce((all, row) => all + row.tokensIn, 0),
    tokensOut: list.reduce((all, row) => all + row.tokensOut, 0),
    earned: sum(list.map((row) => row.earned)).toString(),
    energyKwh: list.reduce((all, row) => all + (row.energyKwh ?? 0), 0),
    metered: list.reduce((all, row) => all + row.metered, 0),
    stated: list.reduce((all, row) => all + row.stated, 0),
    cost: list.reduce((all, row) => all + (row.cost ?? 0), 0),
    net: list.reduce((all, row) => all + (row.net ?? 0), 0),
    state: null,
  }));
}

export function proof(job: string, now: number): Proof {
  const number = Number(job.slice("paid-".length));
  return {
    job,
    receipt: number % 11 !== 4,
    signed: {
      payer: PAYER,
      payee: OPERATOR,
      signer: SESSION,
      vault: VAULT,
      chainId: 31_337,
      cumulative: dgc("0.418273650091"),
      work: "9a0e5d1f7b3c42886d15ce07fa29b4e350c7d8166ab3f9e2041d8b57c6e3f0a9",
      signature:
        "6c1f0e2d7a93b5c84410fa9e6d2b7c5803f1a9d4e6b27c0581f3a49d6e2b7c0517d3e5a9c1f04b86d2e7a3950cb84f16e2d97a053c81b4f6e09d2a7c5b83f140",
      valid: true,
    },
    chain: number < 3 ? null : { claimed: dgc(number < 40 ? "0.31" : "0.44"), covered: true, block: 18_204, checkedUnixMs: now - 2 * MINUTE, endpoints: 2 },
  };
}

export function payment(job: string, now: number): Payment {
  return {
    job,
    receipt: true,
    vouchers: [
      {
        payer: WALLET,
        payee: PAYER,
        signer: SESSION,
        vault: VAULT,
        chainId: 31_337,
        atUnixMs: now - 14 * MINUTE,
        paid: dgc("0.00056"),
        cumulative: dgc("0.041256"),
        work: "0x4d1f0e2d7a93b5c84410fa9e6d2b7c5803f1a9d4e6b27c0581f3a49d6e2b7c05",
        signature: "0x17d3e5a9c1f04b86d2e7a3950cb84f16e2d97a053c81b4f6e09d2a7c5b83f1406c1f0e2d7a93b5c84410fa9e6d2b7c5803f1a9d4e6b27c0581f3a49d6e2b7c05",
        reservation: { upto: dgc("0.05"), untilUnixS: Math.floor(now / 1000) + 6 * 24 * 60 * 60, nonce: 2, signature: "0xb8a2c0f41d93e85b6a07f1d28c4e59a306fd7e906c1f0e2d7a93b5c84410fa9e6d2b7c5803f1a9d4e6b27c0581f3a49d6e2b7c0517d3e5a9c1f04b86d2e7a395" },
        chain: { claimed: dgc("0.0398"), covered: true, block: 18_204, checkedUnixMs: now - MINUTE, endpoints: 2 },
      },
    ],
  };
}

export function transactions(now: number): TransactionView[] {
  const entry = (part: Partial<TransactionView> & Pick<TransactionView, "id" | "title" | "state">): TransactionView => ({
    to: VAULT,
    leaves: [],
    from: WALLET,
    feeMax: dgc("0.000214"),
    hash: `0x${part.id.repeat(64).slice(0, 64)}`,
    sentUnixMs: now - HOUR,
    replaceable: false,
    why: null,
    ...part,
  });
  return [
    entry({ id: "a1", title: "Deposit into the vault", state: "sent", leaves: [{ amount: dgc("1"), symbol: "DGC" }], sentUnixMs: now - 6 * MINUTE, replaceable: true }),
    entry({ id: "b2", title: "Claim of 12 vouchers", state: "mined", sentUnixMs: now - 9 * MINUTE, why: "It is mined: it can be neither sped up nor cancelled." }),
    entry({ id: "c3", title: `Send to ${FRIEND.slice(0, 6)}…`, to: FRIEND, state: "failed", leaves: [{ amount: dgc("0.4"), symbol: "DGC" }], sentUnixMs: now - 5 * HOUR, why: "The token refused the transfer: the receiver is locked by its admins." }),
    entry({ id: "d4", title: "Claim of 31 vouchers", state: "final", sentUnixMs: now - 26 * HOUR }),
    entry({ id: "e5", title: "Deposit into the vault", state: "final", leaves: [{ amount: dgc("2.5"), symbol: "DGC" }], sentUnixMs: now - 23 * DAY }),
    entry({ id: "f6", title: "Test coins from the faucet", state: "final", sentUnixMs: now - 24 * DAY }),
  ];
}

export function offers(): OfferPrice[] {
  return [
    { model: "llama-3.3-70b-instruct", inputLow: dgc("0.8"), inputHigh: dgc("1.1"), outputLow: dgc("2.4"), outputHigh: dgc("3.6"), offers: 3 },
    { model: "llama-3.2-3b-instruct", inputLow: dgc("0.05"), inputHigh: dgc("0.05"), outputLow: dgc("0.2"), outputHigh: dgc("0.2"), offers: 1 },
    { model: "deepseek-r1-distill-llama-8b", inputLow: dgc("0"), inputHigh: dgc("0"), outputLow: dgc("0"), outputHigh: dgc("0"), offers: 1 },
    { model: "smollm2-135m", inputLow: dgc("0.05"), inputHigh: dgc("0.06"), outputLow: dgc("0.2"), outputHigh: dgc("0.3"), offers: 2 },
  ];
}

/** What the computer of the demo asks for the models that it lends. */
export function prices(): AskedPrice[] {
  return [
    { model: "smollm2-135m", input: dgc("0.05"), output: dgc("0.2"), offers: 2, own: null },
    { model: "llama-3.2-3b-instruct", input: dgc("0.08"), output: dgc("0.4"), offers: 1, own: { price: dgc("0.4"), floor: null } },
  ];
}

const setFee: DecodedCall = { to: VAULT, known: true, title: "PayVault.setFee", fields: [{ name: "bps", value: "100" }, { name: "to", value: "0x2aF4…91d0" }] };

export function proposals(now: number): ProposalView[] {
  const entry = (part: Partial<ProposalView> & Pick<ProposalView, "id" | "title" | "state">): ProposalView => ({
    description: "",
    outcome: null,
    startsUnixMs: now - 2 * DAY,
    endsUnixMs: now + DAY,
    etaUnixMs: null,
    next: null,
    for: dgc("0"),
    against: dgc("0"),
    abstain: dgc("0"),
    quorum: dgc("40000"),
    voted: false,
    weight: dgc("310"),
    changes: [],
    calls: [],
    ...part,
  });
  return [
    entry({
      id: "p1",
      title: "Lower the fee on claims to 1 %",
      description: "Claims are cheap on this chain. A lower fee brings more small nodes.\n<b>Vote for it.</b>",
      state: "open",
      for: dgc("31250"),
      against: dgc("8400.5"),
      abstain: dgc("1200"),
      changes: [{ what: "fee", now: "2 %", then: "1 %", used: true, onThisNode: "0.0394 DGC more of the 3.94 DGC claimed in the last 30 days." }],
      calls: [setFee],
    }),
    entry({
      id: "p2",
      title: "Check one job in fifty, and add Llama 3.2 3B",
      description: "More checks, and one more model that may be served.",
      state: "upcoming",
      quorum: null,
      startsUnixMs: now + DAY,
      endsUnixMs: now + 4 * DAY,
      changes: [
        { what: "audit_rate", now: "1 %", then: "2 %", used: false, onThisNode: null },
        { what: "model_add", now: null, then: "Llama 3.2 3B, Llama 3.2 Community", used: true, onThisNode: "You know it as Llama 3.2 3B; it would be marked as listed." },
        { what: "other", now: null, then: "a call that cannot be read", used: false, onThisNode: null },
      ],
      calls: [{ to: "0x6dB1…0c47", known: false, title: "0xa9059cbb…", fields: [{ name: "data", value: "0xa9059cbb0000000000000000000000003dA71f9C0b82E64a5F1d7c93B06eA248f95C0d17" }] }],
    }),
    entry({
      id: "p5",
      title: "List SmolLM2 135M",
      description: "It is small, its licence is free, and its card is published.",
      state: "counting",
      outcome: "passed",
      startsUnixMs: now - 5 * DAY,
      endsUnixMs: now - 3 * DAY,
      etaUnixMs: now - DAY,
      next: "execute",
      for: dgc("61000"),
      against: dgc("300"),
      voted: true,
      changes: [{ what: "model_add", now: null, then: "llama (Apache-2.0), 3f1c", used: true, onThisNode: "You know it as SmolLM2 135M; it would be marked as listed." }],
      calls: [{ to: "0x41aB…77e2", known: true, title: "ModelRegistry.list", fields: [{ name: "data", value: "0x0b1c…" }] }],
    }),
    entry({
      id: "p6",
      title: "Raise the fee on claims to 3 %",
      description: "For audits, once they run.",
      state: "counting",
      outcome: "passed",
      startsUnixMs: now - 4 * DAY,
      endsUnixMs: now - 2 * DAY,
      etaUnixMs: now + DAY,
      for: dgc("43000"),
      against: dgc("20000"),
      changes: [{ what: "fee", now: "2 %", then: "3 %", used: true, onThisNode: "Of the 3.94 DGC that your last 30 days earned, 0.1182 DGC would have gone to the fee instead of 0.0788 DGC." }],
      calls: [setFee],
    }),
    entry({
      id: "p7",
      title: "Lose less of a stake for a first fault",
      description: "A first fault may be an accident.",
      state: "counting",
      outcome: "passed",
      startsUnixMs: now - 3 * DAY,
      endsUnixMs: now - DAY,
      next: "queue",
      for: dgc("41000"),
      against: dgc("1200"),
      changes: [{ what: "slash", now: "10 %", then: "5 %", used: false, onThisNode: null }],
    }),
    entry({
      id: "p3",
      title: "Halve the minimum stake",
      state: "closed",
      outcome: "executed",
      startsUnixMs: now - 12 * DAY,
      endsUnixMs: now - 9 * DAY,
      for: dgc("52000"),
      against: dgc("1900"),
      voted: true,
      changes: [{ what: "minimum_stake", now: "1,000 DGC", then: "500 DGC", used: false, onThisNode: null }],
    }),
    entry({
      id: "p4",
      title: "Auditors get half of the fee",
      state: "closed",
      outcome: "no_quorum",
      startsUnixMs: now - 22 * DAY,
      endsUnixMs: now - 19 * DAY,
      for: dgc("9000"),
      against: dgc("120"),
      changes: [{ what: "auditor_share", now: "20 %", then: "50 %", used: false, onThisNode: null }],
    }),
  ];
}

export function voteStatus(scene: MoneyScene, now: number): VoteStatus {
  const some = scene === "paid" || scene === "locked" || scene === "disagree" || scene === "offline";
  return {
    wrapped: some ? dgc("250") : dgc("0"),
    power: some ? dgc("310") : dgc("0"),
    delegate: some ? WALLET : null,
    mine: scene === "nowallet" ? null : dgc(some ? "12.75" : "0"),
    threshold: dgc("100"),
    proposals: scene === "quiet" ? [] : proposals(now),
    params: RULES,
  };
}
