// Which place of the window is shown, and how much room it has.
export type PlaceName = "chat" | "models" | "node" | "wallet" | "vote" | "settings";
/** wide: rail and sidebar. fold: the sidebar opens over the page. bar: the rail lies at the bottom. */
export type Frame = "wide" | "fold" | "bar";

/** Breakpoints in CSS pixels at text scale 1; at 200 % a window offers half the room. */
const FOLD_AT = 900;
const BAR_AT = 640;

class Places {
  place = $state<PlaceName>("chat");
  frame = $state<Frame>("wide");
  /** The chats opened over the page, where the sidebar is folded. */
  sidebarOpen = $state(false);

  go(place: PlaceName): void {
    this.place = place;
    this.sidebarOpen = false;
  }

  measure(width: number, textScale: number): void {
    const room = width / textScale;
    this.frame = room <= BAR_AT ? "bar" : room <= FOLD_AT ? "fold" : "wide";
    if (this.frame === "wide") this.sidebarOpen = false;
  }
}

export const places = new Places();
