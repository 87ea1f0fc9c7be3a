// Earning and spending as one account: where claims go, as the chain has it, against what the mode wants.
import type { MoneyStatus } from "../../backend/types";
import { t } from "../../text";
import { reasons } from "../wallet/states";

export type Joining = {
  text: string;
  /** What one should know before it is done. */
  note: string | null;
  join: boolean;
  unjoin: boolean;
  /** Why neither can be signed now. */
  why: string | null;
};

/** Null where there is nothing to say: no claims, nothing known, or claims that go where the mode has them. */
export function joining(status: MoneyStatus): Joining | null {
  const wanted = status.mode === "lend_and_spend";
  const cause = reasons(status).send;
  const step = (text: string, note: string | null, join: boolean, unjoin: boolean): Joining => {
    const names = [join ? t.modes.join : null, unjoin ? t.modes.unjoin : null].filter((name) => name !== null);
    return { text, note, join, unjoin, why: cause !== null && names.length > 0 ? t.wallet.reason(names.join(", "), cause) : null };
  };
  switch (status.joined) {
    case null:
      return null;
    case "unregistered":
      return wanted ? step(t.modes.unregistered(status.network?.coin ?? ""), null, false, false) : null;
    case "no":
      return wanted ? step(t.modes.apart, t.modes.joinNote, true, false) : null;
    case "yes":
      return step(t.modes.joined, t.modes.unjoinNote, false, true);
    case "elsewhere":
      return step(t.modes.elsewhere, null, wanted, true);
  }
}
