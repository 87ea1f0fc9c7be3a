import { beforeEach, describe, expect, it, vi } from "vitest";
import { backend, useBackend } from "../../backend/backend";
import { demoBackend } from "../../demo/backend";
import { toasts } from "../../lib/toasts.svelte";
import { chats } from "./chats.svelte";

beforeEach(async () => {
  useBackend(demoBackend("full", 0));
  await chats.load();
  chats.fresh();
  chats.open.draft = "";
});

describe("words that were typed and not sent", () => {
  it("wait in the chat they were typed in", async () => {
    chats.open.draft = "for a new chat";
    await chats.show("bread");
    expect(chats.open.draft).toBe("");
    chats.open.draft = "for the dough";
    await chats.show("porto");
    expect(chats.open.draft).toBe("");
    await chats.show("bread");
    expect(chats.open.draft).toBe("for the dough");
    chats.fresh();
    expect(chats.open.draft).toBe("for a new chat");
  });

  it("are not found again once they were sent", async () => {
    chats.open.draft = "Hello";
    await chats.show("bread");
    chats.fresh();
    await chats.open.sendDraft();
    chats.fresh();
    expect(chats.open.draft).toBe("");
  });

  it("come back with a chat that was deleted and restored", async () => {
    await chats.show("bread");
    chats.open.draft = "for the dough";
    await chats.remove("bread");
    expect(chats.open.draft).toBe("");
    await backend().chatRestore("bread");
    await chats.show("bread");
    expect(chats.open.draft).toBe("for the dough");
  });

  it("stay when the chat becomes a temporary one, and are then kept nowhere", async () => {
    chats.open.draft = "a secret";
    chats.open.setTemporary(true);
    expect(chats.open.draft).toBe("a secret");
    await chats.show("bread");
    chats.fresh();
    expect(chats.open.draft).toBe("");
    expect(chats.open.view.temporary).toBe(false);
  });
});

describe("all chats", () => {
  it("go into one file that is read as JSON", async () => {
    const core = backend();
    const saved = vi.spyOn(core, "saveText");
    const titles = chats.list?.map((chat) => chat.title);
    await chats.exportAll();
    const [name, text] = saved.mock.calls[0] ?? [];
    expect(name).toBe("chats.json");
    expect((JSON.parse(text ?? "") as { title: string }[]).map((chat) => chat.title)).toEqual(titles);
  });

  it("are deleted together, and all come back", async () => {
    const before = chats.list?.map((chat) => chat.id);
    await chats.show("bread");
    toasts.list = [];
    await chats.removeAll();
    expect(chats.list).toEqual([]);
    expect(chats.open.saved).toBe(false);
    toasts.list.at(-1)?.action?.run();
    await vi.waitFor(() => expect(chats.list?.map((chat) => chat.id).sort()).toEqual(before?.sort()));
  });

  it("stay where one cannot be deleted, and say which are gone", async () => {
    const core = backend();
    const all = chats.list?.length ?? 0;
    const really = core.chatDelete;
    let times = 0;
    vi.spyOn(core, "chatDelete").mockImplementation((id) => (++times > 2 ? Promise.reject(new Error("The disk is full.")) : really(id)));
    await chats.removeAll();
    expect(chats.list).toHaveLength(all - 2);
    expect(toasts.list.some((toast) => toast.text === "The disk is full.")).toBe(true);
  });
});
