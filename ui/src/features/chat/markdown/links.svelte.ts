// Which addresses of an answer may be opened, and how they are shown.

/** Longer ones hide where they go. */
const MAX_LENGTH = 2000;
const SCHEMES = new Set(["https:", "http:"]);

/** The address as it would be opened, or null when it is only text. */
export function safeTarget(href: string): string | null {
  if (href.length > MAX_LENGTH) return null;
  try {
    const url = new URL(href);
    // A name or password before the host is there to deceive.
    return SCHEMES.has(url.protocol) && !url.username && !url.password ? url.href : null;
  } catch {
    return null;
  }
}

/** The host: said beside a link whose words do not say it. */
export function site(target: string): string {
  return new URL(target).host;
}

class LinkQuestion {
  /** The address that waits for the person's yes. */
  target = $state<string | null>(null);
}

export const linkQuestion = new LinkQuestion();
