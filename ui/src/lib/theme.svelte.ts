// Puts the chosen theme and text size on the document. Everything is sized in rem, so that one number scales it all.
import { MediaQuery } from "svelte/reactivity";
import { places } from "./places.svelte";
import { settings } from "./settings.svelte";

const BASE_PX = 16;
const systemDark = new MediaQuery("(prefers-color-scheme: dark)");

export function followAppearance(): void {
  $effect(() => {
    const theme = settings.value?.theme ?? "system";
    const dark = theme === "dark" || (theme === "system" && systemDark.current);
    document.documentElement.classList.toggle("dark", dark);
  });
  $effect(() => {
    const scale = settings.value?.textScale ?? 1;
    document.documentElement.style.fontSize = `${BASE_PX * scale}px`;
    const measure = () => places.measure(window.innerWidth, scale);
    measure();
    window.addEventListener("resize", measure);
    return () => window.removeEventListener("resize", measure);
  });
  $effect(() => {
    document.documentElement.dataset["frame"] = places.frame;
  });
}
