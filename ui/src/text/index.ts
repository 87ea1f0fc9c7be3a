import { en } from "./en";

/** A string literal of the English file may be any string in another language; shapes and arguments stay. */
type Widened<T> = T extends string
  ? string
  : T extends (...args: infer A) => string
    ? (...args: A) => string
    : T extends readonly (infer I)[]
      ? readonly Widened<I>[]
      : { [K in keyof T]: Widened<T[K]> };

/** What a language file must provide. */
export type Text = Widened<typeof en>;

/** The language in use. English is the only file so far. */
export const t: Text = en;
