import { el, field, reveal, secret } from "./dom";
import { t } from "./text";

/** As the core bounds them. */
const SHORTEST = 8;
const LONGEST = 256;

/** A password to be chosen, typed twice. */
export class NewPassword {
  private readonly once = secret("password");
  private readonly twice = secret("password");
  readonly first = this.once;
  readonly content: HTMLElement;

  constructor(label: string = t.passwordNew) {
    this.content = el("div", {}, field(label, this.once, t.passwordHint), field(t.passwordAgain, this.twice), reveal(t.show, [this.once, this.twice]));
  }

  get value(): string {
    return this.once.value;
  }

  /** What is wrong with it; null where it is good. */
  problem(): string | null {
    const length = [...this.once.value].length;
    if (length < SHORTEST) return t.passwordShort;
    if (length > LONGEST) return t.passwordLong;
    return this.once.value === this.twice.value ? null : t.passwordDiffers;
  }
}
