/** `pnpm fuzz`, and its share in CI. SEED, COUNT and MINUTES say how much; a failure tells how to repeat it. */
import { writeSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Depth, FuzzMemory, Session } from "./session.js";

/** The same ones each time, so that a change is to blame when they fail; SEED=$RANDOM tries others. */
const SEED = Number(process.env.SEED ?? 20_261_124);
const MINUTES = Number(process.env.MINUTES ?? 0);
const COUNT = Number(process.env.COUNT ?? 200_000);
/** Rounds of one session; its seed repeats them. */
const ROUNDS = 250;
/** No round does work that its input does not call for: most take 50 us of processor time. Garbage collection is allowed for. */
const SLOWEST_MS = 1_000;
/** From so many configurations on, depth is asserted. */
const DEEP = 100_000;

describe("anything in tables, queues, registers and messages", () => {
  it(`neither throws nor hangs: ${MINUTES === 0 ? `${COUNT} configurations` : `${MINUTES} minutes`}`, () => {
    const memory = new FuzzMemory();
    const depth = new Depth();
    const started = performance.now();
    let told = started;
    let done = 0;
    let slowest = 0;
    for (let session = SEED; ; session++) {
      if (MINUTES === 0 ? done >= COUNT : performance.now() - started > MINUTES * 60_000) break;
      const under = new Session(memory, session, depth);
      for (let round = 0; round < ROUNDS; round++) {
        const before = process.cpuUsage();
        try {
          under.round();
        } catch (error) {
          throw new Error(`session ${session}, round ${round}; repeat with: pnpm fuzz --seed ${session} --count ${ROUNDS}`, { cause: error });
        }
        const used = process.cpuUsage(before);
        const took = (used.user + used.system) / 1_000;
        slowest = Math.max(slowest, took);
        if (took > SLOWEST_MS) expect.fail(`session ${session}, round ${round} took ${took.toFixed(0)} ms; repeat with: pnpm fuzz --seed ${session} --count ${ROUNDS}`);
      }
      done += ROUNDS;
      if (process.env.PROGRESS && performance.now() - told > 2_000) {
        told = performance.now();
        writeSync(2, `fuzz: ${done} configurations, ${(done / (told - started)).toFixed(1)} thousand a second, slowest ${slowest.toFixed(1)} ms\n`);
      }
    }
    if (process.env.PROGRESS) {
      const reasons = [...depth.reasons].sort((a, b) => a - b).map((reason) => reason.toString(16));
      writeSync(2, `fuzz: ${done} configurations from seed ${SEED}, slowest ${slowest.toFixed(1)} ms: no exception, no loop\n`);
      writeSync(2, `fuzz: ${JSON.stringify(depth.counts)}; ${reasons.length} fault reasons: ${reasons.join(" ")}\n`);
    }
    expect(done).toBeGreaterThanOrEqual(MINUTES === 0 ? COUNT : 1);
    // The noise got everywhere, or this tried little.
    if (done < DEEP) return;
    expect(depth.reasons.size).toBeGreaterThan(70);
    for (const count of Object.values(depth.counts)) expect(count).toBeGreaterThan(done / 200);
  }, 24 * 3_600_000);
});
