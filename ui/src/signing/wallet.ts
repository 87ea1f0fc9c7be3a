// The pages of the wallet itself: its words, its password, its file.
import { el, field, reveal, secret } from "./dom";
import type { Page } from "./page";
import { NewPassword } from "./passwords";
import { t } from "./text";

export function create(page: Page): void {
  const password = new NewPassword();
  page.show({
    title: t.createTitle,
    body: t.createBody,
    content: [password.content],
    focus: password.first,
    actions: [
      page.cancel(),
      {
        name: t.next,
        look: "solid",
        act: async () => {
          const problem = password.problem();
          if (problem !== null) return page.refuse({ message: problem, fix: null });
          const chosen = password.value;
          await page.core.create(chosen);
          showWords(page, await page.core.words(chosen), () => askBack(page, { said: t.doneCreated, later: () => page.core.finish() }));
        },
      },
    ],
  });
}

/** The words as a list that cannot be selected or copied. */
function showWords(page: Page, words: string[], then: () => Promise<void> | void): void {
  const list = el("ol", { class: "words", "aria-label": t.wordsLabel }, ...words.map((word) => el("li", {}, word)));
  page.show({ title: t.wordsTitle, body: t.wordsBody, content: [list], actions: [{ name: t.wordsWritten, look: "solid", act: then }] });
}

/** What is said when they are right, and what leaving it for later means. */
type Asking = { said: string; later: () => Promise<void> };

async function askBack(page: Page, asking: Asking, password: string | null = null, wrong = false): Promise<void> {
  const positions = await page.core.ask(password);
  const inputs = positions.map(() => secret("text"));
  page.show({
    title: t.askTitle,
    body: t.askBody,
    content: [el("div", { class: "asked" }, ...positions.map((position, at) => field(t.askWord(position), inputs[at] ?? secret("text")))), el("p", { class: "quiet" }, t.askLaterNote)],
    focus: inputs[0],
    aside: { name: t.askLater, look: "plain", act: asking.later },
    actions: [
      {
        name: t.askCheck,
        look: "solid",
        act: async () => {
          const typed = inputs.map((input) => input.value.trim().toLowerCase());
          if (await page.core.check(typed)) page.finished(asking.said);
          else await askBack(page, asking, null, true);
        },
      },
    ],
  });
  if (wrong) page.refuse({ message: t.askWrong, fix: null });
}

/** Someone who has the paper is asked at once; else the words are shown first. */
export function confirmWords(page: Page): void {
  const asking: Asking = { said: t.doneConfirmed, later: () => page.core.cancel() };
  page.show({
    title: t.confirmTitle,
    body: t.confirmBody,
    aside: page.cancel(),
    actions: [
      { name: t.askShow, look: "plain", act: () => passwordThenWords(page, t.showTitle, () => askBack(page, asking)) },
      { name: t.askHave, look: "solid", act: () => askPassword(page, { title: t.confirmTitle, body: t.confirmBody, act: t.next }, (password) => askBack(page, asking, password)) },
    ],
  });
}

export function showOnly(page: Page): void {
  passwordThenWords(page, t.showTitle, () => page.core.finish());
}

function passwordThenWords(page: Page, title: string, then: () => Promise<void> | void): void {
  askPassword(page, { title, body: t.showBody, act: t.next }, async (password) => showWords(page, await page.core.words(password), then));
}

function askPassword(page: Page, said: { title: string; body: string; act: string }, then: (password: string) => Promise<void>): void {
  const password = secret("password");
  page.show({
    title: said.title,
    body: said.body,
    content: [field(t.password, password), reveal(t.show, [password])],
    focus: password,
    actions: [
      page.cancel(),
      {
        name: said.act,
        look: "solid",
        act: async () => {
          if (password.value === "") return page.refuse({ message: t.passwordNeeded, fix: null });
          await then(password.value);
        },
      },
    ],
  });
}

export function unlock(page: Page, then: () => Promise<void> = () => page.core.finish()): void {
  askPassword(page, { title: t.unlockTitle, body: t.unlockBody, act: t.unlock }, async (password) => {
    await page.core.unlock(password);
    await then();
  });
}

export function remember(page: Page): void {
  askPassword(page, { title: t.rememberTitle, body: t.rememberBody, act: t.remember }, async (password) => {
    await page.core.remember(password);
    page.finished(t.doneRemembered);
  });
}

export function importWallet(page: Page, from: "words" | "file" = "words"): void {
  const password = new NewPassword();
  const choice = el("div", { class: "choice", role: "radiogroup", "aria-label": t.importHow });
  for (const [value, name] of [
    ["words", t.importWords],
    ["file", t.importFile],
  ] as const) {
    const radio = el("input", { type: "radio", name: "from", checked: value === from });
    radio.addEventListener("change", () => importWallet(page, value));
    choice.append(el("label", { class: "check" }, radio, name));
  }
  const source = from === "words" ? wordsSource() : fileSource();
  page.show({
    title: t.importTitle,
    content: [choice, ...source.content, password.content, el("p", { class: "quiet" }, t.importPath)],
    focus: source.focus,
    actions: [
      page.cancel(),
      {
        name: t.importTitle,
        look: "solid",
        act: async () => {
          const problem = source.problem() ?? password.problem();
          if (problem !== null) return page.refuse({ message: problem, fix: null });
          await source.send(page, password.value);
          page.finished(t.doneImported);
        },
      },
    ],
  });
}

type Source = { content: HTMLElement[]; focus: HTMLElement; problem: () => string | null; send: (page: Page, password: string) => Promise<void> };

function wordsSource(): Source {
  const typed = el("textarea", { rows: "4", autocomplete: "off", autocapitalize: "off", autocorrect: "off", spellcheck: "false" });
  const counted = el("p", { class: "hint", role: "status" }, t.importWordsCount(0));
  const words = () => typed.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  typed.addEventListener("input", () => (counted.textContent = t.importWordsCount(words().length)));
  return {
    content: [field(t.importWordsLabel, typed), counted],
    focus: typed,
    problem: () => (words().length > 0 ? null : t.importWordsNeeded),
    send: (page, password) => page.core.importWords(words().join(" "), password),
  };
}

function fileSource(): Source {
  const chosen = el("input", { type: "file", accept: ".json,application/json" });
  const filePassword = secret("password");
  return {
    content: [field(t.importFileLabel, chosen), field(t.importFilePassword, filePassword)],
    focus: chosen,
    problem: () => (chosen.files?.[0] ? null : t.importFileNeeded),
    send: async (page, password) => {
      const file = chosen.files?.[0];
      if (file) await page.core.importFile(await file.text(), filePassword.value, password);
    },
  };
}

export function exportFile(page: Page): void {
  const password = secret("password");
  const forFile = new NewPassword(t.exportPassword);
  page.show({
    title: t.exportTitle,
    body: t.exportBody,
    content: [field(t.password, password), forFile.content],
    focus: password,
    actions: [
      page.cancel(),
      {
        name: t.exportSave,
        look: "solid",
        act: async () => {
          const problem = password.value === "" ? t.passwordNeeded : forFile.problem();
          if (problem !== null) return page.refuse({ message: problem, fix: null });
          const path = await page.core.exportFile(password.value, forFile.value);
          if (path === null) page.refuse({ message: t.exportNothing, fix: null });
          else page.finished(t.doneExported(path));
        },
      },
    ],
  });
}

export function changePassword(page: Page): void {
  const old = secret("password");
  const fresh = new NewPassword();
  page.show({
    title: t.changeTitle,
    content: [field(t.changeOld, old), fresh.content],
    focus: old,
    actions: [
      page.cancel(),
      {
        name: t.change,
        look: "solid",
        act: async () => {
          const problem = old.value === "" ? t.passwordNeeded : fresh.problem();
          if (problem !== null) return page.refuse({ message: problem, fix: null });
          await page.core.changePassword(old.value, fresh.value);
          page.finished(t.doneChanged);
        },
      },
    ],
  });
}
