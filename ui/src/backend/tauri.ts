// The real core, through the generated bindings.
import { Channel } from "@tauri-apps/api/core";
import { commands, events } from "../bindings";
import { type Backend, BackendError, type OnAnswer } from "./backend";
import type { AnswerEvent, ErrorView } from "./types";

type Reply<T> = { status: "ok"; data: T } | { status: "error"; error: ErrorView };

async function value<T>(reply: Promise<Reply<T>>): Promise<T> {
  const result = await reply;
  if (result.status === "error") throw new BackendError(result.error);
  return result.data;
}

async function done(reply: Promise<Reply<unknown>>): Promise<void> {
  await value(reply);
}

function channel(onEvent: OnAnswer): Channel<AnswerEvent> {
  const events = new Channel<AnswerEvent>();
  events.onmessage = onEvent;
  return events;
}

export const tauriBackend: Backend = {
  startup: () => done(commands.startup()),
  appInfo: () => value(commands.appInfo()),
  pickFile: () => value(commands.pickFile()),
  pickFolder: () => value(commands.pickFolder()),
  saveText: (name, text) => value(commands.saveText(name, text)),
  openLink: (url) => done(commands.openLink(url)),
  copyText: (text) => done(commands.copyText(text)),

  chatsList: () => value(commands.chatsList()),
  chatsSearch: (query) => value(commands.chatsSearch(query)),
  chatCreate: (temporary) => value(commands.chatCreate(temporary)),
  chatOpen: (chat) => value(commands.chatOpen(chat)),
  chatRename: (chat, title) => done(commands.chatRename(chat, title)),
  chatPin: (chat, pinned) => done(commands.chatPin(chat, pinned)),
  chatDelete: (chat) => done(commands.chatDelete(chat)),
  chatRestore: (chat) => done(commands.chatRestore(chat)),
  chatUpdate: (chat, patch) => value(commands.chatUpdate(chat, patch)),
  chatChoose: (chat, message) => value(commands.chatChoose(chat, message)),
  chatSend: (chat, parent, text, onEvent) => done(commands.chatSend(chat, parent, text, channel(onEvent))),
  chatContinue: (chat, answer, onEvent) => done(commands.chatContinue(chat, answer, channel(onEvent))),
  chatStop: (chat) => done(commands.chatStop(chat)),
  chatContext: (chat, draft) => value(commands.chatContext(chat, draft)),
  chatSummarise: (chat, onEvent) => value(commands.chatSummarise(chat, channel(onEvent))),
  chatExport: (chat, format) => value(commands.chatExport(chat, format)),

  modelsList: () => value(commands.modelsList()),
  modelDownload: (id) => done(commands.modelDownload(id)),
  modelPause: (id) => done(commands.modelPause(id)),
  modelCancel: (id) => done(commands.modelCancel(id)),
  modelRemove: (id) => done(commands.modelRemove(id)),
  modelAdd: (path) => value(commands.modelAdd(path)),
  modelDefault: (id) => done(commands.modelDefault(id)),
  modelsMove: (path) => done(commands.modelsMove(path)),
  communityList: () => value(commands.communityList()),
  communitySearch: () => done(commands.communitySearch()),
  communityLook: (id) => value(commands.communityLook(id)),

  nodeStatus: () => value(commands.nodeStatus()),
  nodeSwitch: (on) => value(commands.nodeSwitch(on)),
  nodePause: (minutes) => done(commands.nodePause(minutes)),
  nodeResume: () => done(commands.nodeResume()),
  nodeAnswers: (limit) => value(commands.nodeAnswers(limit)),
  receiptOpen: (job) => value(commands.receiptOpen(job)),

  peersConnect: (text) => value(commands.peersConnect(text)),
  peersDisconnect: (id) => done(commands.peersDisconnect(id)),
  peersBlock: (id, blocked) => done(commands.peersBlock(id, blocked)),
  peersInvite: () => value(commands.peersInvite()),
  peersLog: () => value(commands.peersLog()),
  peersCompare: (model) => value(commands.peersCompare(model)),
  peersNewName: () => done(commands.peersNewName()),
  peersForgetRecords: () => done(commands.peersForgetRecords()),
  peersWoke: () => done(commands.peersWoke()),
  linkWaiting: () => value(commands.linkWaiting()),
  linkDone: () => done(commands.linkDone()),

  moneyStatus: () => value(commands.moneyStatus()),
  earnings: (fromUnixMs, toUnixMs, by) => value(commands.earnings(fromUnixMs, toUnixMs, by)),
  energyUsed: (fromUnixMs, toUnixMs) => value(commands.energyUsed(fromUnixMs, toUnixMs)),
  proofOpen: (job) => value(commands.proofOpen(job)),
  paymentOpen: (job) => value(commands.paymentOpen(job)),
  statementSave: (format) => value(commands.statementSave(format === "csv")),
  transactions: () => value(commands.transactions()),
  moneyReceive: (role) => value(commands.moneyReceive(role === "spend")),
  moneyOffers: () => value(commands.moneyOffers()),
  moneyPrices: () => value(commands.moneyPrices()),
  startText: () => value(commands.startText()),
  voteStatus: () => value(commands.voteStatus()),
  walletLock: () => done(commands.walletLock()),
  walletForget: () => done(commands.walletForget()),
  signOpen: (intent) => value(commands.signOpen(intent)),

  settingsGet: () => value(commands.settingsGet()),
  settingsSet: (settings) => done(commands.settingsSet(settings)),
  doctor: () => value(commands.doctor()),
  forgetClock: () => done(commands.forgetClock()),

  onStatus: (listener) => events.statusChanged.listen((event) => listener(event.payload)),
  onModels: (listener) => events.modelsChanged.listen((event) => listener(event.payload)),
  onMoney: (listener) => events.moneyChanged.listen((event) => listener(event.payload)),
  onChats: (listener) => events.chatsChanged.listen((event) => listener(event.payload)),
  onLink: (listener) => events.linkArrived.listen(() => listener()),
  onFiles: (listener) => events.filesDragged.listen((event) => listener(event.payload)),
};
