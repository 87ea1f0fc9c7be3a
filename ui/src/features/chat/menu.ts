import Braces from "@lucide/svelte/icons/braces";
import FileText from "@lucide/svelte/icons/file-text";
import Pencil from "@lucide/svelte/icons/pencil";
import Pin from "@lucide/svelte/icons/pin";
import PinOff from "@lucide/svelte/icons/pin-off";
import Trash from "@lucide/svelte/icons/trash-2";
import type { MenuItem } from "../../components/Menu.svelte";
import { t } from "../../text";
import { chats } from "./chats.svelte";

/** What can be done with a chat, the same in the sidebar and in its header. */
export function chatActions(chat: { id: string; title: string; pinned: boolean }): MenuItem[] {
  return [
    { kind: "item", label: t.chats.rename, icon: Pencil, takesFocus: true, run: () => (chats.renaming = chat.id) },
    {
      kind: "item",
      label: chat.pinned ? t.chats.unpin : t.chats.pin,
      icon: chat.pinned ? PinOff : Pin,
      run: () => void chats.pin(chat.id, !chat.pinned),
    },
    { kind: "item", label: t.chats.exportMarkdown, icon: FileText, run: () => void chats.export(chat.id, chat.title, "markdown") },
    { kind: "item", label: t.chats.exportJson, icon: Braces, run: () => void chats.export(chat.id, chat.title, "json") },
    { kind: "line" },
    { kind: "item", label: t.chats.delete, icon: Trash, tone: "bad", run: () => void chats.remove(chat.id) },
  ];
}
