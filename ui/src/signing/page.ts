// One page of the window at a time: its heading, what stands in it, its buttons, and where a refusal is said.
import { type Core, type ErrorView, refusal } from "./core";
import { button, el } from "./dom";
import { t } from "./text";

export type Action = { name: string; look: "solid" | "plain"; act: () => Promise<void> | void };

export type Shown = { title: string; body?: string | null; content?: (Node | null)[]; actions: Action[]; /** Beside the others, at the left. */ aside?: Action; focus?: HTMLElement };

export class Page {
  private busy = false;

  constructor(
    private readonly root: HTMLElement,
    readonly core: Core,
  ) {}

  /** Replaces all of the page; what was typed on the one before is gone with its fields. */
  show({ title, body = null, content = [], actions, aside, focus }: Shown): void {
    for (const old of this.root.querySelectorAll<HTMLInputElement | HTMLTextAreaElement>("input, textarea")) {
      if (old.type !== "file") old.value = "";
    }
    const heading = el("h1", { tabindex: "-1" }, title);
    const problem = el("div", { class: "problem", role: "alert" });
    const form = el("form", { novalidate: true }, heading, body === null ? null : el("p", { class: "lead" }, body), ...content, problem, this.foot(actions, aside));
    const main = actions.find((action) => action.look === "solid");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (main && !this.solid()?.disabled) void this.run(main.act);
    });
    this.root.replaceChildren(form);
    document.title = title;
    (focus ?? heading).focus();
  }

  /** Says a refusal in place, under what was typed. */
  refuse({ message, fix }: Pick<ErrorView, "message" | "fix">): void {
    this.root.querySelector(".problem")?.replaceChildren(el("p", {}, message), ...(fix ? [el("p", { class: "quiet" }, fix)] : []));
  }

  /** The button that does what the page is for works, or its reason stands above it. */
  block(reason: string | null): void {
    const solid = this.solid();
    if (solid) solid.disabled = reason !== null;
    this.root.querySelector(".reason")?.replaceChildren(reason ?? "");
  }

  private solid(): HTMLButtonElement | null {
    return this.root.querySelector<HTMLButtonElement>("footer button.solid");
  }

  /** One thing at a time; while it runs no button works. */
  async run(act: Action["act"]): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    this.root.setAttribute("aria-busy", "true");
    this.root.querySelector(".problem")?.replaceChildren();
    try {
      await act();
    } catch (cause) {
      this.refuse(refusal(cause));
    } finally {
      this.busy = false;
      this.root.removeAttribute("aria-busy");
    }
  }

  cancel(): Action {
    return { name: t.cancel, look: "plain", act: () => this.core.cancel() };
  }

  /** The end of what needed no signature on the chain. */
  finished(said: string): void {
    this.show({ title: t.doneTitle, body: said, actions: [{ name: t.close, look: "solid", act: () => this.core.finish() }] });
  }

  private foot(actions: Action[], aside: Action | undefined): HTMLElement {
    // The solid one submits, so that Enter does in any field what its click does.
    const make = (action: Action) => (action.look === "solid" ? el("button", { type: "submit", class: "solid" }, action.name) : button(action.name, () => void this.run(action.act)));
    return el("footer", {}, el("p", { class: "reason", role: "status" }), ...(aside ? [el("span", { class: "aside" }, make(aside))] : []), ...actions.map(make));
  }
}
