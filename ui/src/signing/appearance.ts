// Light or dark and the size of text, as the app is set: it comes with the address of the page, and with an event of the
// document when it is changed meanwhile. A theme that is neither follows the system.

const BASE_PX = 16;
/** As far as the settings go; anything else is the normal size. */
const SCALES = { least: 0.5, most: 3 };

export function followAppearance(search: string): void {
  const query = new URLSearchParams(search);
  let [theme, scale] = [query.get("theme"), Number(query.get("scale"))];
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = (): void => {
    const dark = theme === "dark" || (theme !== "light" && system.matches);
    document.documentElement.classList.toggle("dark", dark);
    const size = scale >= SCALES.least && scale <= SCALES.most ? scale : 1;
    document.documentElement.style.fontSize = `${BASE_PX * size}px`;
  };
  system.addEventListener("change", apply);
  document.addEventListener("appearance", (event) => {
    if (event instanceof CustomEvent) [theme, scale] = [String(event.detail.theme), Number(event.detail.scale)];
    apply();
  });
  apply();
}
