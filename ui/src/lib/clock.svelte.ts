/** "Now" for relative times on screen; half a minute is finer than anything it is shown in. */
const STEP_MS = 30_000;

class Clock {
  now = $state(Date.now());

  constructor() {
    setInterval(() => {
      this.now = Date.now();
    }, STEP_MS);
  }
}

export const clock = new Clock();
