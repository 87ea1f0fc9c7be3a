// The chats of the sidebar and which of them is open.
import { SvelteMap } from "svelte/reactivity";
import { backend } from "../../backend/backend";
import type { ChatSummary, ChatView, SearchHit } from "../../backend/types";
import { models } from "../../lib/models.svelte";
import { places } from "../../lib/places.svelte";
import { settings } from "../../lib/settings.svelte";
import { attempt, toasts } from "../../lib/toasts.svelte";
import { t } from "../../text";
import { blankChat, Session } from "./session.svelte";

const ALL_CHATS = "chats.json";

class Chats {
  /** Null until the core has answered once. */
  list = $state.raw<ChatSummary[] | null>(null);
  open = $state.raw(new Session(blankChat(false, "local")));
  query = $state("");
  /** Null while nothing is searched. */
  hits = $state.raw<SearchHit[] | null>(null);
  /** Raised to ask the composer and the search field for the focus. */
  focusComposer = $state(0);
  focusSearch = $state(0);
  /** Words are looked for in the open chat; raised to ask for the focus again, 0 while it is not done. */
  finding = $state(0);
  renaming = $state<string | null>(null);
  /** The message that a search hit points to. */
  target = $state<string | null>(null);
  /** Chats with a running answer stay alive while another one is shown. */
  private running = new SvelteMap<string, Session>();
  /** Words that were typed and not sent, by the chat they were typed in; they live as long as the window. */
  private drafts = new Map<string, string>();

  async load(): Promise<void> {
    const list = await attempt(backend().chatsList());
    if (list) this.take(list);
  }

  take(list: ChatSummary[]): void {
    const before = this.summary(this.open.view.id);
    this.list = list;
    const now = this.summary(this.open.view.id);
    if (now && now.title !== this.open.view.title) this.open.view = { ...this.open.view, title: now.title };
    // An answer that another shell asked for has ended: show it whole.
    if (before?.answering && now && !now.answering && !this.open.running) void attempt(this.open.reload());
  }

  summary(id: string): ChatSummary | null {
    return this.list?.find((chat) => chat.id === id) ?? null;
  }

  fresh(temporary = false): void {
    this.leave();
    this.open = this.enter(this.blank(temporary));
    this.shown();
  }

  async show(id: string, message: string | null = null): Promise<void> {
    if (this.open.view.id !== id) {
      this.leave();
      const running = this.running.get(id);
      if (running) {
        this.open = running;
        if (!running.answering) this.running.delete(id);
      } else {
        const view = await attempt(message ? backend().chatChoose(id, message) : backend().chatOpen(id));
        if (!view) return;
        this.open = this.enter(view);
      }
    } else if (message && !this.open.turns.some((turn) => turn.id === message)) {
      await this.open.choose(message);
    }
    this.target = message;
    this.shown();
  }

  /** After a summary: the new chat with the question that did not fit. */
  showView(session: Session): void {
    this.leave();
    this.open = session;
    this.shown();
  }

  async rename(id: string, title: string): Promise<void> {
    this.renaming = null;
    const wanted = title.trim();
    if (!wanted || wanted === this.summary(id)?.title) return;
    this.list = this.list?.map((chat) => (chat.id === id ? { ...chat, title: wanted } : chat)) ?? null;
    if (this.open.view.id === id) this.open.view = { ...this.open.view, title: wanted };
    await attempt(backend().chatRename(id, wanted));
  }

  async pin(id: string, pinned: boolean): Promise<void> {
    this.list = this.list?.map((chat) => (chat.id === id ? { ...chat, pinned } : chat)) ?? null;
    if (this.open.view.id === id) this.open.view = { ...this.open.view, pinned };
    await attempt(backend().chatPin(id, pinned));
  }

  async remove(id: string): Promise<void> {
    const title = this.summary(id)?.title || t.chats.untitled;
    const wasOpen = this.open.view.id === id;
    const done = await attempt(backend().chatDelete(id).then(() => true));
    if (!done) return;
    this.list = this.list?.filter((chat) => chat.id !== id) ?? null;
    this.hits = this.hits?.filter((hit) => hit.chat !== id) ?? null;
    if (wasOpen) this.leave();
    this.running.delete(id);
    if (wasOpen) {
      this.open = this.enter(this.blank(false));
      this.focusComposer++;
    }
    toasts.say(t.chats.deleted(title), {
      label: t.common.undo,
      run: () =>
        void attempt(
          backend()
            .chatRestore(id)
            .then(() => this.load())
            .then(() => (wasOpen ? this.show(id) : undefined)),
        ),
    });
  }

  /** All of them, with the same way back. */
  async removeAll(): Promise<void> {
    const ids = (this.list ?? []).map((chat) => chat.id);
    const open = ids.includes(this.open.view.id) ? this.open.view.id : null;
    if (open !== null) this.leave();
    const gone: string[] = [];
    for (const id of ids) {
      if (!(await attempt(backend().chatDelete(id).then(() => true)))) break;
      this.running.delete(id);
      gone.push(id);
    }
    this.hits = null;
    await this.load();
    if (open !== null && gone.includes(open)) this.open = this.enter(this.blank(false));
    if (gone.length > 0) toasts.say(t.chats.allDeleted(gone.length), { label: t.common.undo, run: () => void this.restore(gone) });
  }

  private async restore(ids: string[]): Promise<void> {
    for (const id of ids) await attempt(backend().chatRestore(id));
    await this.load();
  }

  /** Every chat in one file. */
  async exportAll(): Promise<void> {
    const texts: string[] = [];
    for (const { id } of this.list ?? []) {
      const text = await attempt(backend().chatExport(id, "json"));
      if (text === null) return;
      texts.push(text.trim());
    }
    const path = await attempt(backend().saveText(ALL_CHATS, `[\n${texts.join(",\n")}\n]\n`));
    if (path) toasts.say(t.chats.exported(path));
  }

  async export(id: string, title: string, format: "markdown" | "json"): Promise<void> {
    const text = await attempt(backend().chatExport(id, format));
    if (text === null) return;
    const name = `${fileName(title)}.${format === "markdown" ? "md" : "json"}`;
    const path = await attempt(backend().saveText(name, text));
    if (path) toasts.say(t.chats.exported(path));
  }

  async search(query: string): Promise<void> {
    this.query = query;
    const wanted = query.trim();
    if (!wanted) {
      this.hits = null;
      return;
    }
    const hits = await attempt(backend().chatsSearch(wanted));
    if (hits && this.query.trim() === wanted) this.hits = hits;
  }

  /** The first chat stands before the core has answered: its beginnings are filled in when they are known. */
  settle(): void {
    if (this.open.saved) return;
    const { place, sampling } = this.blank(false);
    this.open.view = { ...this.open.view, place, sampling };
  }

  private blank(temporary: boolean): ChatView {
    return blankChat(temporary, settings.value?.place ?? "local", models.preferred);
  }

  /** What of the open chat must not be lost when another one is shown. */
  private leave(): void {
    this.finding = 0;
    for (const [id, session] of this.running) if (!session.answering) this.running.delete(id);
    const { view, draft } = this.open;
    if (this.open.answering && this.open.saved) this.running.set(view.id, this.open);
    // Of a temporary chat nothing is kept.
    if (view.temporary) return;
    if (draft.trim()) this.drafts.set(view.id, draft);
    else this.drafts.delete(view.id);
  }

  /** A chat with the words that were typed in it and not sent. */
  private enter(view: ChatView): Session {
    const session = new Session(view);
    if (view.temporary) return session;
    session.draft = this.drafts.get(view.id) ?? "";
    this.drafts.delete(view.id);
    return session;
  }

  private shown(): void {
    places.go("chat");
    this.focusComposer++;
  }
}

/** A title as a file name that every system takes. */
export function fileName(title: string): string {
  const words = title.split(/[\\/:*?"<>|\p{Cc}\s]+/u).filter((word) => /[^.]/.test(word));
  return words.join(" ").slice(0, 80).trim() || "chat";
}

export const chats = new Chats();
