// Keys as the keyboard in front of the person names them.

const APPLE = /^(Mac|iP)/.test(navigator.platform);

/** `Mod N` as it is written on a keyboard: `Ctrl N`, on an Apple `⌘ N`. */
export function keysOf(keys: string, apple = APPLE): string {
  return apple ? keys.replaceAll("Mod", "⌘").replace("Shift", "⇧") : keys.replaceAll("Mod", "Ctrl");
}
