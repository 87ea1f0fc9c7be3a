import { beforeEach, describe, expect, it } from "vitest";
import { backend, useBackend } from "../../backend/backend";
import { demoBackend } from "../../demo/backend";
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
