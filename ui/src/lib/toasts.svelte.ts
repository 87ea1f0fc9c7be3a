// Short lines at the foot of the window: what was just done, and how to take it back.
import { errorView } from "../backend/backend";

export type Toast = {
  id: number;
  tone: "plain" | "bad";
  text: string;
  detail: string | null;
  action: { label: string; run: () => void } | null;
};

/** Long enough to read and reach the button; errors stay until dismissed. */
const SHOWN_MS = 7000;
/** More than this would cover the composer; the oldest goes. */
const MOST = 3;

class Toasts {
  list = $state.raw<Toast[]>([]);
  private next = 1;

  say(text: string, action: Toast["action"] = null): void {
    const toast = this.add({ tone: "plain", text, detail: null, action });
    setTimeout(() => this.dismiss(toast), SHOWN_MS);
  }

  /** For failures of something that has no place of its own on screen. */
  failed(cause: unknown): void {
    this.warn(errorView(cause));
  }

  /** Something went wrong that was survived: said once, and then found where it belongs. */
  warn({ message, fix }: { message: string; fix: string | null }): void {
    this.add({ tone: "bad", text: message, detail: fix, action: null });
  }

  dismiss(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
  }

  private add(toast: Omit<Toast, "id">): number {
    const id = this.next++;
    this.list = [...this.list, { ...toast, id }].slice(-MOST);
    return id;
  }
}

export const toasts = new Toasts();

/** Runs a command whose failure is told in a toast; null when it failed. */
export async function attempt<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (cause) {
    toasts.failed(cause);
    return null;
  }
}
