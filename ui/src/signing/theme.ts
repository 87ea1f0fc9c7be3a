// Light or dark: as the app is set, else as the system is. What the app is set to comes with the address of the page, and with
// an event of the document when it is changed meanwhile.

export function followTheme(search: string): void {
  let chosen = new URLSearchParams(search).get("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = (): void => {
    const dark = chosen === "dark" || (chosen !== "light" && system.matches);
    document.documentElement.classList.toggle("dark", dark);
  };
  system.addEventListener("change", apply);
  document.addEventListener("theme", (event) => {
    if (event instanceof CustomEvent) chosen = String(event.detail);
    apply();
  });
  apply();
}
