// Which page the window opens with: one intent, and when it is done or cancelled the core closes the window.
import { confirm, noWallet } from "./confirm";
import { type Core, refusal } from "./core";
import { Page } from "./page";
import { t } from "./text";
import { changePassword, confirmWords, create, exportFile, importWallet, remember, showOnly, unlock } from "./wallet";

export async function start(core: Core, root: HTMLElement): Promise<void> {
  const page = new Page(root, core);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") void page.run(() => core.cancel());
  });
  page.show({ title: t.loading, actions: [page.cancel()] });
  try {
    await open(page);
  } catch (cause) {
    const { message, fix } = refusal(cause);
    page.show({
      title: message,
      body: fix,
      actions: [page.cancel(), { name: t.again, look: "solid", act: () => open(page) }],
    });
  }
}

async function open(page: Page): Promise<void> {
  const { intent, wallet } = await page.core.intent();
  if (intent.kind === "create") {
    if (wallet === "none") return create(page);
    return page.show({ title: t.createThere, actions: [{ name: t.close, look: "solid", act: () => page.core.cancel() }] });
  }
  if (intent.kind === "import") return importWallet(page);
  if (wallet === "none") return noWallet(page);
  switch (intent.kind) {
    case "unlock":
      return unlock(page);
    case "show_words":
      return showOnly(page);
    case "confirm_words":
      return confirmWords(page);
    case "export":
      return exportFile(page);
    case "remember":
      return remember(page);
    case "change_password":
      return changePassword(page);
    // Everything else moves something on the chain.
    default:
      return confirm(page, wallet === "locked");
  }
}
