/** What a client may do, as /proc says it. */
import { readFileSync } from "node:fs";

/** Bits of CapEff in /proc/PID/status. */
const CAPABILITIES = { IPC_LOCK: 14n, SYS_RESOURCE: 24n } as const;

export function effectiveCapabilities(pid: number): string[] {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(readProc(pid, "status"))?.[1] ?? "0"}`);
  return Object.entries(CAPABILITIES).flatMap(([name, bit]) => ((effective >> bit) & 1n ? [name] : []));
}

/** RLIMIT_MEMLOCK in bytes. */
export function memlockLimit(pid: number): bigint {
  const limit = /^Max locked memory\s+(\S+)/m.exec(readProc(pid, "limits"))?.[1] ?? "0";
  return limit === "unlimited" ? 2n ** 64n : BigInt(limit);
}

/** "" once the process is gone. */
function readProc(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, "latin1");
  } catch {
    return "";
  }
}
