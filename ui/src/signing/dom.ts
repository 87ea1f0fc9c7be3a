// Elements without markup: text goes in as text alone, whatever it says.

type Child = Node | string | null;
type Attributes = Record<string, string | boolean | null | undefined>;

/** `null` and `false` leave an attribute or a child out. */
export function el<K extends keyof HTMLElementTagNameMap>(tag: K, attributes: Attributes = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (typeof value === "string") element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function button(text: string, act: () => void): HTMLButtonElement {
  const made = el("button", { type: "button" }, text);
  made.addEventListener("click", act);
  return made;
}

let made = 0;

/** A label, its control, and a hint, tied together for screen readers. */
export function field(label: string, control: HTMLInputElement | HTMLTextAreaElement, hint: string | null = null): HTMLElement {
  const id = `field-${made++}`;
  control.id = id;
  if (hint !== null) control.setAttribute("aria-describedby", `${id}-hint`);
  return el("div", { class: "field" }, el("label", { for: id }, label), control, hint === null ? null : el("p", { id: `${id}-hint`, class: "hint" }, hint));
}

/** Never remembered, never spell-checked by anybody's server. */
export function secret(kind: "password" | "text"): HTMLInputElement {
  return el("input", { type: kind, autocomplete: "off", autocapitalize: "off", autocorrect: "off", spellcheck: "false" });
}

/** A switch that shows what is typed in these fields. */
export function reveal(label: string, fields: HTMLInputElement[]): HTMLElement {
  const box = el("input", { type: "checkbox" });
  box.addEventListener("change", () => {
    for (const one of fields) one.type = box.checked ? "text" : "password";
  });
  return el("label", { class: "check" }, box, label);
}
