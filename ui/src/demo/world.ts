// Models, peers and settings of the demo.
import type { Answered, Check, Link, ModelRow, ModelsView, NodeStatus, Peer, Receipt, Settings } from "../backend/types";
import { bytes } from "../lib/format";
import { DAY, MINUTE, PEERS } from "./chats";

const GB = 1e9;

const HAVE = 23 * GB;

/** What a file needs beside itself: room for a conversation and for computing. */
function fit(sizeBytes: number): ModelRow["fit"] {
  const needBytes = sizeBytes * 1.12 + 0.2 * GB;
  const need = bytes(needBytes);
  if (needBytes > HAVE) return { kind: "too_large", needBytes, haveBytes: HAVE, sentence: `Too large: it needs about ${need} of memory, and 23 GB are free.` };
  if (needBytes > 0.8 * HAVE) return { kind: "tight", needBytes, haveBytes: HAVE, sentence: `Tight: it needs about ${need} of memory, and 23 GB are free.` };
  return { kind: "fits", needBytes, haveBytes: HAVE, sentence: `Fits: it needs about ${need} of memory, and 23 GB are free.` };
}

function row(part: Partial<ModelRow> & Pick<ModelRow, "id" | "name" | "about" | "sizeBytes">): ModelRow {
  return {
    family: "llama",
    parameters: "8B",
    contextMax: 131_072,
    quant: "Q4_K_M",
    licence: "Apache-2.0",
    licenceUrl: "https://www.apache.org/licenses/LICENSE-2.0",
    serveForPay: "yes",
    mayServe: true,
    trainingDataOpen: false,
    starter: false,
    origin: "catalogue",
    digest: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    state: { kind: "absent" },
    fit: fit(part.sizeBytes),
    measured: null,
    peers: 0,
    isDefault: false,
    ...part,
  };
}

export function modelRows(first: boolean): ModelRow[] {
  const rows = [
    row({
      id: "smollm2-135m",
      name: "SmolLM2 135M Instruct",
      about: "Starter: works offline, makes mistakes. Short questions in English.",
      parameters: "135M",
      sizeBytes: 98_362_432,
      quant: "Q4_1",
      contextMax: 8192,
      trainingDataOpen: true,
      starter: true,
      isDefault: true,
      state: { kind: "ready", path: "~/.local/share/decentralgpt/models/SmolLM2-135M-Instruct.Q4_1.gguf", loaded: true },
      measured: { prefillTokensPerSecond: 477, decodeTokensPerSecond: 148, atMs: Date.now() - 2 * MINUTE },
    }),
    row({
      id: "llama-3.2-3b-instruct",
      name: "Llama 3.2 3B",
      about: "General chat, light on memory",
      parameters: "3.2B",
      sizeBytes: 2.02 * GB,
      licence: "Llama 3.2 Community",
      serveForPay: "unknown",
      peers: 1,
    }),
    row({ id: "qwen2.5-7b-instruct", name: "Qwen2.5 7B", about: "Code, many languages", family: "qwen2", parameters: "7.6B", sizeBytes: 4.68 * GB, contextMax: 32_768 }),
    row({
      id: "deepseek-r1-distill-llama-8b",
      name: "DeepSeek R1 Distill 8B",
      about: "Thinks before it answers",
      sizeBytes: 4.92 * GB,
      licence: "MIT",
      peers: 1,
    }),
    row({
      id: "mistral-small-24b-instruct",
      name: "Mistral Small 24B",
      about: "Long texts, many languages",
      parameters: "24B",
      sizeBytes: 18.3 * GB,
      contextMax: 32_768,
    }),
    row({
      id: "ministral-8b",
      name: "Ministral 8B",
      about: "Long texts",
      sizeBytes: 4.91 * GB,
      licence: "Mistral Research",
      mayServe: false,
      serveForPay: "no",
      digest: null,
    }),
    row({
      id: "llama-3.3-70b-instruct",
      name: "Llama 3.3 70B",
      about: "Large; best with a peer",
      parameters: "70B",
      sizeBytes: 42.5 * GB,
      licence: "Llama 3.3 Community",
      serveForPay: "unknown",
      peers: 2,
    }),
  ];
  if (first) return rows.map((entry) => ({ ...entry, peers: 0, measured: null }));
  const [starter, llama, qwen, deepseek, mistral, ministral, large] = rows as [ModelRow, ModelRow, ModelRow, ModelRow, ModelRow, ModelRow, ModelRow];
  return [
    starter,
    {
      ...llama,
      state: { kind: "ready", path: "~/.local/share/decentralgpt/models/Llama-3.2-3B-Instruct-Q4_K_M.gguf", loaded: false },
      measured: { prefillTokensPerSecond: 62, decodeTokensPerSecond: 9.4, atMs: Date.now() - DAY },
    },
    { ...qwen, state: { kind: "downloading", done: 1.02 * GB, total: 4.68 * GB, bytesPerSecond: 9.1e6, secondsLeft: 402, source: "huggingface.co" } },
    deepseek,
    { ...mistral, state: { kind: "paused", done: 8.4 * GB, total: 18.3 * GB } },
    {
      ...ministral,
      state: {
        kind: "failed",
        done: 1.1 * GB,
        error: { code: "disk_full", message: "The disk has 1.2 GB free, and 3.8 GB are still to come.", fix: "Free some space or move the models folder, then retry." },
      },
    },
    large,
  ];
}

export function modelsView(rows: ModelRow[]): ModelsView {
  return {
    rows,
    folder: { path: "~/.local/share/decentralgpt/models", usedBytes: 2.12 * GB, freeBytes: 61.4 * GB },
    computer: "AMD EPYC · 2 cores · 23 GB of memory",
    better: "deepseek-r1-distill-llama-8b",
  };
}

export function peers(now: number): Peer[] {
  return [
    {
      id: PEERS.PEER,
      name: "Kjx9Qa",
      address: "/ip4/192.168.1.20/udp/4101/quic-v1",
      direction: "out",
      transport: "quic",
      rttMs: 3.2,
      agent: "decentralgpt/0.1.0",
      models: ["Llama 3.3 70B", "DeepSeek R1 Distill 8B"],
      unlisted: 2,
      sinceMs: now - 14 * MINUTE,
      blocked: false,
      asked: true,
      asks: false,
      relayed: false,
      receivedBytes: 412_000,
      sentBytes: 96_000,
      record: { jobs: 12, failed: 1, lies: 0, tokensPerSecond: 31.4 },
      restingUntilMs: null,
    },
    {
      id: PEERS.OTHER,
      name: "Ee3mPf",
      address: "/ip6/2001:db8:85a3:8d3:1319:8a2e:370:7348/tcp/4102",
      direction: "in",
      transport: "tcp",
      rttMs: 48.9,
      agent: "decentralgpt/0.1.0",
      models: [],
      unlisted: 0,
      sinceMs: now - 2 * MINUTE,
      blocked: false,
      asked: false,
      asks: true,
      relayed: true,
      receivedBytes: 18_000,
      sentBytes: 7_000,
      record: null,
      restingUntilMs: null,
    },
    {
      id: PEERS.BLOCKED,
      name: "tH3xQe",
      address: "",
      direction: "out",
      transport: "quic",
      rttMs: null,
      agent: "",
      models: [],
      unlisted: 0,
      sinceMs: 0,
      blocked: true,
      asked: false,
      asks: false,
      relayed: false,
      receivedBytes: 0,
      sentBytes: 0,
      record: { jobs: 3, failed: 2, lies: 1, tokensPerSecond: 18.2 },
      restingUntilMs: null,
    },
  ];
}

export function status(now: number): NodeStatus {
  return {
    version: "0.1.0",
    dataFolder: "~/.local/share/decentralgpt",
    peerId: "12D3KooWMz4bT7eGkQp2XhWcRfJy8sNvA5dLuK1oE9iYt6HqBw3C",
    serving: { kind: "serving", jobs: 2, tokensPerSecond: 74.3 },
    servingModel: "SmolLM2 135M",
    offered: ["SmolLM2 135M", "Llama 3.2 3B"],
    notOffered: [{ model: "Ministral 8B", why: "Its licence does not allow answering others." }],
    listening: ["/ip4/192.168.1.7/udp/4101/quic-v1", "/ip4/192.168.1.7/tcp/4101"],
    peers: peers(now),
    reach: {
      kind: "relayed",
      text: "Others reach this computer through relays, which cannot read what they carry.",
      fixes: ["Switch on UPnP in your router, or pass the listening port on to this computer by hand."],
      nat: "The router gives this computer one port for all peers.",
      upnp: "No router here passes ports on by UPnP.",
      relays: ["uQ7vRt"],
      carries: null,
      testedMs: now - 4 * MINUTE,
    },
    sources: [
      { code: "book", name: "", enabled: true, tried: 6, found: 1, problem: null },
      { code: "built_in", name: "", enabled: false, tried: 0, found: 0, problem: null },
      { code: "dnsaddr", name: "", enabled: false, tried: 0, found: 0, problem: null },
      { code: "invited", name: "", enabled: true, tried: 1, found: 1, problem: null },
      { code: "lan", name: "", enabled: true, tried: 0, found: 0, problem: null },
      { code: "mainline", name: "", enabled: true, tried: 9, found: 2, problem: null },
    ],
    receivedBytes: 430_000,
    sentBytes: 103_000,
    answeredToday: 57,
    tokensToday: 31_204,
    offMs: 412,
    engine: { state: "busy", worker: "AVX2", model: "SmolLM2 135M", memoryBytes: 312e6, isolatedNetwork: true, isolatedFiles: true },
    lender: {
      reads: "Strangers' text is computed here, in the worker's memory. It is not shown, not logged and not kept.",
      reaches: "The worker holds no keys and is started without the network and without your files.",
      stores: "The count, the model, the time and the signed receipt of each answer; never a word of it.",
      serves: "Models whose licence allows it. A model that forbids serving others is never offered.",
      stops: "The switch: peers are told, their work moves on, and the memory is free within two seconds.",
    },
    meter: { kind: "none", detail: "There is no meter.", fix: null, idleMw: null, nowMw: null },
    notices: [],
  };
}

export function answered(now: number): Answered[] {
  const entry = (job: string, ago: number, tokensOut: number, state: Answered["state"], peer: string): Answered => ({
    job,
    atMs: now - ago,
    model: "SmolLM2 135M",
    tokensIn: Math.round(tokensOut / 3) + 31,
    tokensOut,
    finish: "stop",
    state,
    peer,
    earned: state === "signed" ? (BigInt(tokensOut) * 200_000_000_000n).toString() : null,
  });
  return [
    entry("job-1", 8_000, 212, "answering", PEERS.PEER),
    entry("job-2", MINUTE, 640, "signed", PEERS.OTHER),
    entry("job-3", 4 * MINUTE, 1108, "signed", PEERS.PEER),
    entry("job-4", 9 * MINUTE, 96, "unsigned", PEERS.OTHER),
    entry("job-5", 3 * 60 * MINUTE, 311, "signed", PEERS.OTHER),
  ];
}

export function receipt(job: string, now: number): Receipt {
  const provider = /^(job|paid)-\d/.test(job);
  return {
    job: "4f1c09b2a7d35e8860cf11b9e2d47a05c3b86e9914f2d05a7718bc36e0d94f21",
    role: provider ? "provider" : "client",
    peer: PEERS.PEER,
    model: provider ? "SmolLM2 135M" : "Llama 3.3 70B",
    modelDigest: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    unlisted: false,
    tokensIn: 412,
    tokensCached: 309,
    tokensOut: 96,
    finish: "stop",
    atMs: now - 3 * MINUTE,
    chain: "9a0e5d1f7b3c42886d15ce07fa29b4e350c7d8166ab3f9e2041d8b57c6e3f0a9",
    providerSignature: "valid",
    clientSignature: job === "job-4" ? "missing" : "valid",
    due: "0",
    checked: "not checked",
    json: '{"job":"4f1c…"}',
  };
}

export const CHECKS: Check[] = [
  { name: "Switched on", state: "pass", detail: "since 08:12", fix: null, act: null },
  { name: "Data folder", state: "pass", detail: "writable, 61.4 GB free", fix: null, act: null },
  { name: "Engine", state: "pass", detail: "AVX2, isolated", fix: null, act: null },
  { name: "Power meter", state: "pass", detail: "The processor's own meter counts (RAPL).", fix: null, act: null },
  { name: "Model", state: "pass", detail: "SmolLM2 135M", fix: null, act: null },
  { name: "Reachable", state: "warn", detail: "through relays", fix: "Pass UDP port 4101 on to this computer in your router, or switch on UPnP there.", act: null },
  { name: "Display", state: "skip", detail: "not needed", fix: null, act: null },
];

/** The check of the clock, before and after somebody said that it is right now. */
export const CLOCK_AHEAD: Check = {
  name: "Clock",
  state: "fail",
  detail: "This computer's clock is 24 hours behind what it once was.",
  fix: "Set the clock: signed offers and jobs carry times, and are refused when they are wrong. Where it is right now, and was once ahead, say so.",
  act: "forget_clock",
};
export const CLOCK_RIGHT: Check = { name: "Clock", state: "pass", detail: "The clock has not gone back.", fix: null, act: null };

/** Somebody's invite, as a link proposes it. */
export const INVITED = {
  kind: "invite",
  text: "dgpt1:g4zq3tvb5nfhyq6qj2b7kxw4m5c3r2d6s7t5u4v3w2x6y7z5a4b3c2d6e7f5g4h3i2j6k7l5m4n3o2p6q7r5s4t3u2v6w7x5y4z3a2b6",
  peer: "12D3KooWHq7sT2bVnYx4mKc9dPzRw8aLfGj5eUt3iQoN6vB1kXyA",
  name: "B1kXyA",
  addresses: ["/ip4/203.0.113.7/udp/4001/quic-v1", "/ip4/203.0.113.7/tcp/4001"],
  own: false,
  blocked: false,
  connected: false,
} satisfies Link;

export const SETTINGS: Settings = {
  theme: "system",
  textScale: 1,
  defaultModel: "smollm2-135m",
  place: "local",
  listen: ["/ip4/0.0.0.0/udp/4101/quic-v1", "/ip4/0.0.0.0/tcp/4101"],
  mdns: true,
  proxy: null,
  serveModels: [],
  serveFree: true,
  serveMaxOut: 1024,
  networkShare: 100,
  routing: "balanced",
  priceCap: null,
  regionsAllow: [],
  regionsDeny: [],
  region: null,
  explore: true,
  communityModels: false,
  lanOnly: false,
  savedPeers: true,
  dnsNames: [],
  mainline: true,
  upnp: true,
  relay: true,
  threads: null,
  closeToTray: null,
  money: { network: null, mode: "free", price: null, floor: null, cached: null, daily: null, chat: null, lock: null, tariff: null, worth: null, currency: null, watts: null, models: {}, caps: {} },
};
