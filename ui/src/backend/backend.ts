// The one seam between the window and the core. Everything above it asks `backend()`; below it stands either
// the Tauri core (tauri.ts) or, in browser tests and pictures only, the demo (src/demo).
import type {
  Answered,
  AnswerEvent,
  AppInfo,
  AskedPrice,
  ChatPatch,
  ChatSummary,
  ChatView,
  Check,
  CommunityModel,
  CommunityView,
  Dragged,
  EarningRow,
  EarningsBy,
  EnergyUsed,
  ErrorView,
  Intent,
  Invite,
  Link,
  LogLine,
  ModelRow,
  ModelsView,
  MoneyStatus,
  NodeStatus,
  OfferPrice,
  Payment,
  Peer,
  PeerChoice,
  Proof,
  Receipt,
  Receiving,
  SearchHit,
  Settings,
  Signed,
  TransactionView,
  VoteStatus,
} from "./types";

/** A refusal of the core: a code to choose by, a sentence to show, and the next step where there is one. */
export class BackendError extends Error {
  constructor(readonly view: ErrorView) {
    super(view.message);
    this.name = "BackendError";
  }
}

/** Whatever was thrown, as something that can be shown. */
export function errorView(cause: unknown): ErrorView {
  if (cause instanceof BackendError) return cause.view;
  return { code: "unknown", message: cause instanceof Error ? cause.message : String(cause), fix: null };
}

export type Unlisten = () => void;
export type OnAnswer = (event: AnswerEvent) => void;

/** Every use case of the core. Methods reject with {@link BackendError}. */
export interface Backend {
  /** Resolves when the core is up, or says why it cannot start. */
  startup(): Promise<void>;
  appInfo(): Promise<AppInfo>;
  pickFile(): Promise<string | null>;
  pickFolder(): Promise<string | null>;
  saveText(name: string, text: string): Promise<string | null>;
  openLink(url: string): Promise<void>;
  copyText(text: string): Promise<void>;

  chatsList(): Promise<ChatSummary[]>;
  chatsSearch(query: string): Promise<SearchHit[]>;
  chatCreate(temporary: boolean): Promise<ChatView>;
  chatOpen(chat: string): Promise<ChatView>;
  chatRename(chat: string, title: string): Promise<void>;
  chatPin(chat: string, pinned: boolean): Promise<void>;
  chatDelete(chat: string): Promise<void>;
  chatRestore(chat: string): Promise<void>;
  chatUpdate(chat: string, patch: ChatPatch): Promise<ChatView>;
  chatChoose(chat: string, message: string): Promise<ChatView>;
  /** Resolves when the answer is finished; `text` null answers the user message `parent` again. */
  chatSend(chat: string, parent: string | null, text: string | null, onEvent: OnAnswer): Promise<void>;
  chatContinue(chat: string, answer: string, onEvent: OnAnswer): Promise<void>;
  chatStop(chat: string): Promise<void>;
  chatContext(chat: string, draft: string): Promise<{ used: number; limit: number }>;
  chatSummarise(chat: string, onEvent: OnAnswer): Promise<ChatView>;
  chatExport(chat: string, format: "markdown" | "json"): Promise<string>;

  modelsList(): Promise<ModelsView>;
  modelDownload(id: string): Promise<void>;
  modelPause(id: string): Promise<void>;
  modelCancel(id: string): Promise<void>;
  modelRemove(id: string): Promise<void>;
  modelAdd(path: string): Promise<ModelRow>;
  modelDefault(id: string): Promise<void>;
  modelsMove(path: string): Promise<void>;
  /** What peers offer and no row of the models names. Nobody is asked. */
  communityList(): Promise<CommunityView>;
  /** Looks for more of it; resolves at once. */
  communitySearch(): Promise<void>;
  /** Fetches what one of them says of itself, from a peer that offers it. */
  communityLook(id: string): Promise<CommunityModel>;

  nodeStatus(): Promise<NodeStatus>;
  nodeSwitch(on: boolean): Promise<NodeStatus>;
  nodePause(minutes: number | null): Promise<void>;
  nodeResume(): Promise<void>;
  nodeAnswers(limit: number): Promise<Answered[]>;
  receiptOpen(job: string): Promise<Receipt>;

  peersConnect(text: string): Promise<Peer>;
  peersDisconnect(id: string): Promise<void>;
  peersBlock(id: string, blocked: boolean): Promise<void>;
  peersInvite(): Promise<Invite>;
  /** What happened to connections lately, the newest first. */
  peersLog(): Promise<LogLine[]>;
  /** Who offers the model (null: the one of new chats), best first, then those that are not taken. Nobody is asked. */
  peersCompare(model: string | null): Promise<PeerChoice[]>;
  /** Peers are asked under another name from now on. */
  peersNewName(): Promise<void>;
  peersForgetRecords(): Promise<void>;
  /** All connections begin anew. */
  peersWoke(): Promise<void>;
  /** What the link says that the system handed over and nobody answered yet. Nobody is dialled for it. */
  linkWaiting(): Promise<Link | null>;
  /** It was answered: the next one may come. */
  linkDone(): Promise<void>;

  moneyStatus(): Promise<MoneyStatus>;
  /** The newest first. */
  earnings(fromUnixMs: number, toUnixMs: number, by: EarningsBy): Promise<EarningRow[]>;
  /** What answering took, paid and for nothing. */
  energyUsed(fromUnixMs: number, toUnixMs: number): Promise<EnergyUsed>;
  proofOpen(job: string): Promise<Proof>;
  /** What paid for an answer that this computer asked for. */
  paymentOpen(job: string): Promise<Payment>;
  /** The whole ledger as a file; null when the person saved nothing. */
  statementSave(format: "csv" | "json"): Promise<string | null>;
  transactions(): Promise<TransactionView[]>;
  moneyReceive(role: "wallet" | "spend"): Promise<Receiving>;
  moneyOffers(): Promise<OfferPrice[]>;
  /** What this computer asks for the models that it lends. */
  moneyPrices(): Promise<AskedPrice[]>;
  /** The first deposit that was signed here last, as text for whoever brings it. */
  startText(): Promise<string>;
  voteStatus(): Promise<VoteStatus>;
  walletLock(): Promise<void>;
  /** The keychain of this computer keeps nothing of the wallet any more. */
  walletForget(): Promise<void>;
  /** Opens the signing window and resolves when it has closed. */
  signOpen(intent: Intent): Promise<Signed>;

  settingsGet(): Promise<Settings>;
  settingsSet(settings: Settings): Promise<void>;
  doctor(): Promise<Check[]>;
  /** The clock of the list of jobs begins anew. */
  forgetClock(): Promise<void>;

  onStatus(listener: (status: NodeStatus) => void): Promise<Unlisten>;
  onModels(listener: (models: ModelsView) => void): Promise<Unlisten>;
  onMoney(listener: (money: MoneyStatus) => void): Promise<Unlisten>;
  onChats(listener: (chats: ChatSummary[]) => void): Promise<Unlisten>;
  /** A link was handed over; `linkWaiting` says which. */
  onLink(listener: () => void): Promise<Unlisten>;
  /** Files are dragged over the window. */
  onFiles(listener: (drag: Dragged) => void): Promise<Unlisten>;
}

let chosen: Backend | null = null;

/** Called once, by the entry that starts the window. */
export function useBackend(backend: Backend): void {
  chosen = backend;
}

export function backend(): Backend {
  if (!chosen) throw new Error("the window was started without a backend");
  return chosen;
}
