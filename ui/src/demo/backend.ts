// A core of pretend, in the browser: for pictures and browser tests only, never part of the app. It keeps the
// order of events and the refusals of the real one, so that what works here is not a lucky path.
import { type Backend, BackendError, type OnAnswer } from "../backend/backend";
import {
  type AnswerEvent,
  type ChatPatch,
  type ChatSummary,
  type ChatView,
  type CommunityModel,
  type Dragged,
  type ErrorView,
  type Link,
  type Message,
  type ModelRow,
  type ModelState,
  type MoneyStatus,
  type NodeStatus,
  type Sampling,
  type Settings,
  type TransactionView,
  withMoney,
} from "../backend/types";
import { blankChat } from "../features/chat/session.svelte";
import { communityRows, SAYS } from "./community";
import { conversations, type Draft, EARLIER, message, paid, PEERS } from "./chats";
import { energyUsed, grouped, jobs, LIMITS, meter, type MoneyScene, moneyStatus, offers, payment, PRICE_CAP, prices, proof, transactions, voteStatus, WALLET } from "./money";
import { answered, CHECKS, CLOCK_AHEAD, CLOCK_RIGHT, INVITED, modelRows, modelsView, peers, receipt, SETTINGS, status } from "./world";

/** full: a month of use. first: the first start. bare: no model and nobody. broken: the core does not start. */
export type Scenario = "full" | "first" | "bare" | "broken";

/** A link that was followed: an invite, one's own, or something that no link may ask for. */
export type LinkScene = "invite" | "own" | "refused";

/** The event by which a test drags files over the window. */
export const DRAG = "demo-drag";

export const ANSWER =
  "The sky is blue because air scatters **short** waves more than long ones. This is *Rayleigh scattering*: its strength falls with the fourth power of the wavelength.\n\nAt sunset the light crosses more air, and what is left is red.";

const refuse = (view: ErrorView): never => {
  throw new BackendError(view);
};

export function demoBackend(scenario: Scenario = "full", pieceMs = 12, settings: Partial<Settings> = {}, scene: MoneyScene = scenario === "full" ? "paid" : "off", asked: LinkScene | null = null): Backend {
  const now = Date.now();
  const bare = scenario === "bare";
  const full = scenario === "full";
  let rows: ModelRow[] = modelRows(!full).map((row) => (bare ? { ...row, state: { kind: "absent" as const }, isDefault: false } : row));
  let state: Settings = { ...SETTINGS, defaultModel: bare ? null : SETTINGS.defaultModel, ...settings };
  const fullStatus = { ...status(now), meter: meter(scene) };
  let node: NodeStatus = full
    ? fullStatus
    : {
        ...fullStatus,
        serving: { kind: "off" },
        servingModel: null,
        offered: [],
        notOffered: [],
        listening: [],
        peers: [],
        reach: { ...fullStatus.reach, kind: "off", fixes: [], relays: [], testedMs: null },
        sources: fullStatus.sources.map((source) => ({ ...source, tried: 0, found: 0 })),
        receivedBytes: 0,
        sentBytes: 0,
        answeredToday: 0,
        tokensToday: 0,
        offMs: null,
        engine: { ...fullStatus.engine, state: "off", worker: null, model: null, memoryBytes: 0, isolatedFiles: false, isolatedNetwork: false },
      };
  let money: MoneyStatus = moneyStatus(scene, now);
  const spending = money.vault !== null && money.vault.granted !== "0";
  const limits = spending ? LIMITS : {};
  state = { ...state, ...withMoney(state, { ...limits, network: money.network?.name ?? null, mode: money.mode }), priceCap: spending ? PRICE_CAP : null };
  let sent: TransactionView[] = scene === "paid" || scene === "disagree" || scene === "offline" || scene === "locked" ? transactions(now) : [];
  const earned = sent.length > 0 ? jobs(now) : [];
  const chats = new Map<string, Draft>(full ? conversations(now).map((chat) => [chat.id, chat]) : []);
  const deleted = new Map<string, Draft>();
  let link: Link | null =
    asked === null ? null : asked === "refused" ? { kind: "refused", error: { code: "link_refused", message: "This link is no invite, and nothing else can be opened by a link.", fix: "Ask for the invite again and paste all of it, or paste an address that begins with /ip4 or /ip6." } } : { ...INVITED, own: asked === "own" };
  const samplings = new Map<string, Sampling>();
  const stopping = new Set<string>();
  let unlisted: CommunityModel[] = full ? communityRows() : [];
  let made = 0;
  let clockAhead = true;

  const heard = {
    status: new Set<(value: NodeStatus) => void>(),
    models: new Set<(value: ReturnType<typeof modelsView>) => void>(),
    money: new Set<(value: MoneyStatus) => void>(),
    chats: new Set<(value: ChatSummary[]) => void>(),
  };
  const setMoney = (change: Partial<MoneyStatus>) => {
    money = { ...money, ...change };
    heard.money.forEach((listener) => listener(money));
  };
  const network = () => money.network ?? refuse({ code: "no_network", message: "Money is off: no network is set up.", fix: null });
  const setSent = (id: string, change: Partial<TransactionView>) => {
    sent = sent.map((entry) => (entry.id === id ? { ...entry, ...change } : entry));
  };
  const tellStatus = () => heard.status.forEach((listener) => listener(node));
  const tellModels = () => heard.models.forEach((listener) => listener(modelsView(rows)));
  const tellChats = () => heard.chats.forEach((listener) => listener(list()));

  function list(): ChatSummary[] {
    return [...chats.values()]
      .filter((chat) => !chat.temporary)
      .map(({ id, title, pinned, updatedMs, messages }) => ({
        id,
        title,
        pinned,
        createdMs: updatedMs,
        updatedMs,
        remote: messages.some((entry) => entry.spans.some((span) => span.peer !== null)),
        answering: messages.some((entry) => entry.state === "streaming"),
      }));
  }

  function chatOf(id: string): Draft {
    return chats.get(id) ?? refuse({ code: "chat_missing", message: "This chat does not exist any more.", fix: null });
  }

  function view(id: string): ChatView {
    const { updatedMs: _, ...chat } = chatOf(id);
    return { ...chat, sampling: samplings.get(id) ?? blankChat(false, "local").sampling, messages: chat.messages.map((entry) => ({ ...entry })) };
  }

  function setRow(id: string, wanted: ModelState): void {
    rows = rows.map((row) => (row.id === id ? { ...row, state: wanted } : row));
    tellModels();
  }

  const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

  async function answer(chat: Draft, parent: string | null, text: string | null, tell: OnAnswer, begun = ""): Promise<void> {
    const remote = chat.place !== "local";
    if (!remote && chat.model?.startsWith("sha256:")) {
      refuse({ code: "unlisted_not_here", message: "This model is not in your catalogue, and only peers have it.", fix: "Let a peer's computer answer, or choose another model." });
    }
    if (!remote && !rows.some((row) => row.state.kind === "ready")) {
      refuse({ code: "model_missing", message: "No model is on this computer.", fix: "Download one under Models." });
    }
    if (remote && !chat.consented) refuse({ code: "consent_needed", message: "This chat may not leave the computer yet.", fix: null });
    if (remote && node.peers.length === 0) refuse({ code: "no_peer", message: "No connected peer offers this model.", fix: "Connect to a peer under Node." });
    const at = parent === null ? -1 : chat.messages.findIndex((entry) => entry.id === parent);
    const path = chat.messages.slice(0, at + 1);
    const replaced = chat.messages[at + 1];
    const user = text === null ? null : message({ id: `u${++made}`, role: "user", content: text, parent });
    if (user && replaced) user.siblings = [...replaced.siblings, user.id];
    const reply = message({
      id: `a${++made}`,
      role: "assistant",
      content: begun,
      parent: user?.id ?? parent,
      state: "streaming",
      tokensPerSecond: null,
      firstTokenMs: null,
      outputTokens: null,
      model: chat.unlisted ?? chat.model ?? state.defaultModel,
      unlisted: chat.unlisted !== null,
      spans: [],
    });
    if (!user && replaced) reply.siblings = [...replaced.siblings, reply.id];
    chat.messages = [...path, ...(user ? [user] : []), reply];
    chat.updatedMs = Date.now();
    tell({ kind: "started", chat: chat.id, user: user && { ...user }, answer: { ...reply } });
    tellChats();
    const phases: AnswerEvent[] = remote
      ? [{ kind: "phase", phase: "connecting", done: 0, total: 0, peer: PEERS.PEER }, ...[2, 1].map((done): AnswerEvent => ({ kind: "phase", phase: "queued", done, total: 0, peer: PEERS.PEER }))]
      : [40, 80, 100].map((done) => ({ kind: "phase", phase: "loading", done, total: 100, peer: null }));
    for (const phase of phases) {
      tell(phase);
      // A place in line lasts for as long as somebody else's answer.
      await wait(pieceMs * (phase.kind === "phase" && phase.phase === "queued" ? 40 : 4));
    }
    tell({ kind: "placed", peer: remote ? PEERS.PEER : null, index: 0, why: null });
    const pieces = ANSWER.match(/\S+\s*/g) ?? [];
    for (const [index, piece] of pieces.entries()) {
      if (stopping.has(chat.id)) break;
      reply.content += piece;
      tell({ kind: "text", append: piece, reasoning: false, tokens: index + 1 });
      await wait(pieceMs);
    }
    const stopped = stopping.delete(chat.id);
    Object.assign(reply, {
      state: stopped ? "stopped" : "complete",
      tokensPerSecond: remote ? 18.2 : 148.3,
      firstTokenMs: remote ? 1300 : 90,
      outputTokens: pieces.length,
      spans: [remote && money.network ? paid({ fromIndex: 0, peer: PEERS.PEER, receipt: "job-new", why: null }, "12500000000000") : { fromIndex: 0, peer: remote ? PEERS.PEER : null, receipt: remote ? "job-new" : null, why: null }],
    } satisfies Partial<Message>);
    chat.contextUsed += 180;
    if (!chat.title) {
      chat.title = (text ?? "Chat").slice(0, 40);
      tell({ kind: "titled", title: chat.title });
    }
    tell({ kind: "finished", message: { ...reply }, contextUsed: chat.contextUsed, contextLimit: chat.contextLimit });
    tellChats();
  }

  const soon = async <T>(value: T): Promise<T> => value;
  const listening =
    <T>(set: Set<(value: T) => void>) =>
    async (listener: (value: T) => void) => {
      set.add(listener);
      return () => void set.delete(listener);
    };

  return {
    startup: async () => {
      if (scenario === "broken") {
        refuse({
          code: "schema_newer",
          message: "The chats on this computer were written by a newer version of the app.",
          fix: "Install that version again; nothing was changed.",
        });
      }
    },
    appInfo: () => soon({ version: "0.1.0", dataFolder: node.dataFolder, licences: "MIT OR Apache-2.0" }),
    pickFile: () => soon("~/Downloads/phi-3.gguf"),
    pickFolder: () => soon("/mnt/big/models"),
    saveText: (name) => soon(`~/Documents/${name}`),
    openLink: async () => {},
    copyText: async () => {},

    chatsList: () => soon(list()),
    chatsSearch: async (query) => {
      const wanted = query.toLowerCase();
      return [...chats.values()].flatMap((chat) => {
        const found = chat.messages.find((entry) => entry.content.toLowerCase().includes(wanted));
        const inTitle = chat.title.toLowerCase().includes(wanted);
        if (!found && !inTitle) return [];
        const text = found?.content ?? chat.title;
        const at = text.toLowerCase().indexOf(wanted);
        const snippet = `${at > 30 ? "…" : ""}${text.slice(Math.max(0, at - 30), at)}\u0001${text.slice(at, at + wanted.length)}\u0002${text.slice(at + wanted.length, at + 60)}`;
        return [{ chat: chat.id, title: chat.title, message: found?.id ?? null, snippet }];
      });
    },
    chatCreate: async (temporary) => {
      const id = `new${++made}`;
      const { sampling: _, ...blank } = blankChat(temporary, state.place);
      chats.set(id, { ...blank, id, contextLimit: 8192, updatedMs: Date.now() });
      return view(id);
    },
    chatOpen: async (id) => view(id),
    chatRename: async (id, title) => {
      chatOf(id).title = title;
      tellChats();
    },
    chatPin: async (id, pinned) => {
      chatOf(id).pinned = pinned;
      tellChats();
    },
    chatDelete: async (id) => {
      deleted.set(id, chatOf(id));
      chats.delete(id);
      tellChats();
    },
    chatRestore: async (id) => {
      const chat = deleted.get(id);
      if (chat) chats.set(id, chat);
      tellChats();
    },
    chatUpdate: async (id, patch: ChatPatch) => {
      const { sampling, ...rest } = patch;
      if (sampling) samplings.set(id, sampling);
      Object.assign(chatOf(id), rest);
      if (rest.model !== undefined) chatOf(id).unlisted = unlisted.find((entry) => entry.id === rest.model)?.name ?? null;
      return view(id);
    },
    chatChoose: async (id, chosen) => {
      const chat = chatOf(id);
      const at = chat.messages.findIndex((entry) => entry.siblings.includes(chosen));
      const other = EARLIER[chosen];
      const current = chat.messages[at];
      if (other && current) {
        EARLIER[current.id] = current;
        chat.messages = [...chat.messages.slice(0, at), other];
      }
      return view(id);
    },
    chatSend: (id, parent, text, tell) => answer(chatOf(id), parent, text, tell),
    chatContinue: async (id, cut, tell) => {
      const chat = chatOf(id);
      const before = chat.messages.find((entry) => entry.id === cut);
      return answer(chat, before?.parent ?? null, null, tell, before?.content);
    },
    chatStop: async (id) => void stopping.add(id),
    chatContext: async (id, draft) => {
      const chat = chatOf(id);
      return { used: chat.contextUsed + Math.ceil(draft.length / 4), limit: chat.contextLimit };
    },
    chatSummarise: async () => {
      await wait(pieceMs * 20);
      const id = `new${++made}`;
      const { sampling: _, ...blank } = blankChat(false, "local");
      chats.set(id, {
        ...blank,
        id,
        title: "Summary",
        contextLimit: 8192,
        updatedMs: Date.now(),
        messages: [message({ id: `s${made}`, role: "system", content: "Summary of the earlier chat: a thesis outline in sixty sections." })],
      });
      tellChats();
      return view(id);
    },
    chatExport: async (id, format) => (format === "json" ? `${JSON.stringify({ title: chatOf(id).title })}\n` : `# ${chatOf(id).title}\n`),

    modelsList: () => soon(modelsView(rows)),
    modelDownload: async (id) => {
      const row = rows.find((entry) => entry.id === id);
      if (row) setRow(id, { kind: "downloading", done: row.sizeBytes * 0.24, total: row.sizeBytes, bytesPerSecond: 9.1e6, secondsLeft: 402, source: "huggingface.co" });
    },
    modelPause: async (id) => {
      const row = rows.find((entry) => entry.id === id);
      if (row?.state.kind === "downloading") setRow(id, { kind: "paused", done: row.state.done, total: row.state.total });
    },
    modelCancel: async (id) => setRow(id, { kind: "absent" }),
    modelRemove: async (id) => setRow(id, { kind: "absent" }),
    modelAdd: async () =>
      refuse({
        code: "unsupported_architecture",
        message: "This file holds a “phi3” model, and this engine cannot run that architecture yet.",
        fix: "Choose a GGUF of the llama or qwen2 family.",
      }),
    modelDefault: async (id) => {
      rows = rows.map((row) => ({ ...row, isDefault: row.id === id }));
      state = { ...state, defaultModel: id };
      tellModels();
    },
    modelsMove: async () => {},
    communityList: () => soon({ on: state.communityModels, searching: false, rows: state.communityModels ? unlisted : [], leftOut: 0 }),
    communitySearch: async () => {
      if (!state.communityModels) refuse({ code: "community_off", message: "Community models are off.", fix: "Switch them on under Models." });
    },
    communityLook: async (id) => {
      await wait(pieceMs * 20);
      const row = unlisted.find((entry) => entry.id === id) ?? refuse({ code: "no_peer", message: "No reachable peer offers it.", fix: "Look again later." });
      if (row.heads > 1) refuse({ code: "head_missing", message: `What is needed to write to ${row.name} could not be fetched: what the peer sent is not what it named.`, fix: "Try again; another peer may give it." });
      const seen = { ...row, name: row.says?.name ?? SAYS.name, says: row.says ?? SAYS };
      unlisted = unlisted.map((entry) => (entry.id === id ? seen : entry));
      return seen;
    },

    nodeStatus: () => soon(node),
    nodeSwitch: async (on) => {
      await wait(pieceMs * 10);
      node = on
        ? { ...node, serving: { kind: "waiting", sinceMs: Date.now() }, servingModel: "SmolLM2 135M", offered: ["SmolLM2 135M"], listening: fullStatus.listening, engine: fullStatus.engine }
        : {
            ...node,
            serving: { kind: "off" },
            servingModel: null,
            offered: [],
            listening: [],
            offMs: 412,
            engine: { ...node.engine, state: "off", worker: null, model: null, memoryBytes: 0, isolatedFiles: false, isolatedNetwork: false },
          };
      tellStatus();
      return node;
    },
    nodePause: async (minutes) => {
      node = { ...node, serving: { kind: "paused_by_you", untilMs: minutes === null ? null : Date.now() + minutes * 60_000 } };
      tellStatus();
    },
    nodeResume: async () => {
      node = { ...node, serving: { kind: "waiting", sinceMs: Date.now() } };
      tellStatus();
    },
    nodeAnswers: () => soon(full ? answered(now) : []),
    receiptOpen: async (job) => {
      const shown = receipt(job, now);
      return money.network !== null && shown.role === "client" ? { ...shown, due: payment(job, now).vouchers[0]?.paid ?? "0" } : shown;
    },

    peersConnect: async (text) => {
      await wait(pieceMs * 10);
      if (!text.startsWith("/") && !text.startsWith("dgpt")) {
        refuse({ code: "bad_address", message: "This is neither an address nor an invite.", fix: "An address begins with /ip4/ or /dns/, an invite with dgpt1." });
      }
      node = { ...node, peers: peers(Date.now()).slice(0, 1) };
      tellStatus();
      return node.peers[0] ?? refuse({ code: "unreachable", message: "Nobody answered at this address.", fix: null });
    },
    peersDisconnect: async (id) => {
      node = { ...node, peers: node.peers.filter((peer) => peer.id !== id) };
      tellStatus();
    },
    peersBlock: async (id, blocked) => {
      node = { ...node, peers: node.peers.map((peer) => (peer.id === id ? { ...peer, blocked } : peer)) };
      tellStatus();
    },
    peersLog: () =>
      soon([
        { atMs: Date.now() - 40_000, serving: true, peer: node.peerId, direction: "in", code: "refused", text: "The connection from somebody over the internet (QUIC) did not come about: your settings do not allow it." },
        { atMs: Date.now() - 120_000, serving: true, peer: fullStatus.peers[1]?.id ?? null, direction: "in", code: "opened", text: "The connection from Ee3mPf over the internet (TCP) was opened." },
        { atMs: Date.now() - 14 * 60_000, serving: false, peer: fullStatus.peers[0]?.id ?? null, direction: "out", code: "upgraded", text: "The connection to Kjx9Qa over the internet (QUIC) goes directly now, no longer through a relay." },
        { atMs: Date.now() - 15 * 60_000, serving: false, peer: fullStatus.peers[0]?.id ?? null, direction: "out", code: "opened", text: "The connection to Kjx9Qa through a relay (QUIC) was opened." },
      ]),
    peersCompare: () =>
      soon([
        ...node.peers.slice(0, 1).map(({ id, name }) => ({ id, name, connected: true, chance: 0.83, firstTokenMs: 620, tokensPerSecond: 31.4, reliability: 0.93, region: "eu", notTaken: null })),
        ...(full
          ? [
              { id: "12D3KooWR7", name: "eWk2Lm", connected: false, chance: 0.17, firstTokenMs: null, tokensPerSecond: null, reliability: 0.8, region: null, notTaken: null },
              { id: "12D3KooWS8", name: "sNt4Vb", connected: false, chance: 0, firstTokenMs: null, tokensPerSecond: null, reliability: 0.41, region: null, notTaken: "it asks more than your highest price" },
            ]
          : []),
      ]),
    peersNewName: async () => {},
    peersWoke: async () => {},
    linkWaiting: () => soon(link),
    linkDone: async () => void (link = null),
    peersForgetRecords: async () => {
      node = { ...node, peers: node.peers.map((peer) => ({ ...peer, record: null })) };
      tellStatus();
    },
    peersInvite: () =>
      soon({
        text: INVITED.text,
        link: INVITED.text.replace("dgpt1:", "decentralgpt://invite/1/"),
        qrSvg: squares(),
        addresses: node.listening.map((address) => `${address}/p2p/${node.peerId}`),
      }),

    moneyStatus: () => soon(money),
    earnings: async (from, to, by) => grouped(earned.filter((row) => (row.atUnixMs ?? 0) >= from && (row.atUnixMs ?? 0) <= to), by),
    energyUsed: async (from, to) => energyUsed(earned.filter((row) => (row.atUnixMs ?? 0) >= from && (row.atUnixMs ?? 0) <= to)),
    proofOpen: (job) => soon(proof(job, now)),
    paymentOpen: (job) => soon(payment(job, now)),
    statementSave: (format) => soon(`~/Documents/statement.${format}`),
    transactions: () => soon(sent),
    moneyReceive: async (role) => {
      network();
      return { address: money.accounts.find((account) => account.role === role)?.address ?? WALLET, qrSvg: squares() };
    },
    moneyOffers: async () => (money.network ? [...offers(), ...unlisted.map(({ id, prices: { free: _, ...prices }, peers: count }) => ({ model: id, ...prices, offers: count }))] : []),
    moneyPrices: async () => (money.network ? prices().map((price) => ({ ...price, own: state.money.models[price.model] ?? null })) : []),
    startText: async () => (money.start === null ? refuse({ code: "no_start", message: "Nothing was signed.", fix: null }) : '{\n  "format": 1\n}'),
    voteStatus: async () => {
      network();
      return voteStatus(scene, now);
    },
    walletLock: async () => setMoney({ wallet: "locked", locksUnixMs: null }),
    walletForget: async () => setMoney({ remembered: false }),
    signOpen: async (intent) => {
      await wait(pieceMs * 10);
      if (intent.kind === "create" || intent.kind === "import") {
        const made = moneyStatus("nocoin", now);
        setMoney({ ...made, backedUp: intent.kind === "import" });
      }
      if (intent.kind === "speed_up") setSent(intent.id, { why: "It was sent again with a higher fee just now." });
      if (intent.kind === "cancel") setSent(intent.id, { state: "replaced", replaceable: false, why: "An empty transaction took its place." });
      if (intent.kind === "sign_start") setMoney({ start: { deposit: intent.amount, fee: intent.fee, deadlineUnixS: Math.floor(Date.now() / 1000) + 7 * 24 * 60 * 60 } });
      if (intent.kind === "confirm_words") setMoney({ backedUp: true });
      if (intent.kind === "remember") setMoney({ remembered: true });
      if (intent.kind === "unlock") setMoney({ wallet: "unlocked", locksUnixMs: Date.now() + 15 * 60_000 });
      return "done";
    },

    settingsGet: () => soon(state),
    settingsSet: async (wanted) => {
      if (wanted.proxy !== null && !/^https?:\/\//.test(wanted.proxy)) {
        refuse({ code: "bad_proxy", message: "A proxy address begins with http:// or https://.", fix: null });
      }
      state = wanted;
      const mode = wanted.money?.mode;
      if (mode && mode !== money.mode) setMoney({ mode });
    },
    doctor: async () => {
      await wait(pieceMs * 10);
      return [...CHECKS, clockAhead ? CLOCK_AHEAD : CLOCK_RIGHT];
    },
    forgetClock: async () => void (clockAhead = false),

    onStatus: listening(heard.status),
    onModels: listening(heard.models),
    onMoney: listening(heard.money),
    onChats: listening(heard.chats),
    onLink: async () => () => {},
    onFiles: async (listener) => {
      const hear = (event: Event) => listener((event as CustomEvent<Dragged>).detail);
      window.addEventListener(DRAG, hear);
      return () => window.removeEventListener(DRAG, hear);
    },
  };
}

/** Something of a QR code's texture; it encodes nothing. */
function squares(): string {
  const cells: string[] = [];
  for (let y = 0; y < 29; y++) for (let x = 0; x < 29; x++) if ((x * 7 + y * 13 + ((x * y) % 5) * 3) % 3 === 0) cells.push(`M${x} ${y}h1v1h-1z`);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 29 29"><path d="${cells.join("")}"/></svg>`;
}
