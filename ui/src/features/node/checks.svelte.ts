import type { Check } from "../../backend/types";

/** The last run of the checks; kept while the window is open, so that another place can be visited meanwhile. */
class Checks {
  list = $state.raw<Check[] | null>(null);
  atMs = $state<number | null>(null);
  running = $state(false);
}

export const checks = new Checks();
