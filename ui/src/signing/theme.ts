// Light or dark: as the app is set (it comes with the address of the page), else as the system is.

export function followTheme(search: string): void {
  const chosen = new URLSearchParams(search).get("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = (): void => {
    document.documentElement.classList.toggle("dark", chosen === null ? system.matches : chosen === "dark");
  };
  system.addEventListener("change", apply);
  apply();
}
