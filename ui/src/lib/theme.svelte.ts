// Puts the chosen theme and text size on the document. Everything is sized in rem, so that one number scales it all.
import { MediaQuery } from "svelte/reactivity";
import { places } from "./places.svelte";
import { settings } from "./settings.svelte";

const BASE_PX = 16;
/** Steps of the text size; above 200 % a window of common size has no room left. */
export const SCALES = [0.9, 1, 1.1, 1.25, 1.5, 1.75, 2];
/** A scale read from a file may be a little off its step. */
const NEARLY = 0.001;
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

/** The next larger or smaller text, or the usual one. */
export function scaleText(by: 1 | -1 | 0): void {
  const scale = settings.value?.textScale ?? 1;
  const next = by === 0 ? 1 : by > 0 ? SCALES.find((step) => step > scale + NEARLY) : SCALES.findLast((step) => step < scale - NEARLY);
  if (next !== undefined && next !== scale) void settings.set({ textScale: next });
}
