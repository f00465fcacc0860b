/** Trace events in one line each. */
import { formatRid, type TraceEvent } from "@iommukit/core";
import { hex, style } from "./style.js";

function shown(value: string | number | bigint): string {
  if (typeof value === "string") return JSON.stringify(value);
  return typeof value === "number" && value < 10 ? String(value) : hex(BigInt.asUintN(64, BigInt(value)));
}

export function eventLine(event: TraceEvent): string {
  switch (event.kind) {
    case "call": {
      const args = Object.entries(event.args)
        .filter(([name, value]) => name !== "size" && name !== "argsz" && (typeof value === "string" || BigInt(value) !== 0n))
        .map(([name, value]) => `${name}=${shown(value)}`);
      const answer = event.errno ? style.bad(`-1 ${event.errno}: ${event.reason?.message ?? ""}`) : String(event.ret);
      return `${style.name(event.name)}(${event.file}${args.length > 0 ? `, ${args.join(" ")}` : ""}) = ${answer}`;
    }
    case "table-write": {
      const count = event.count > 1 ? ` x ${event.count}` : "";
      return `table    ${event.structure} at ${hex(event.pa)} = ${hex(event.value)}${count}  ${style.dim(event.meaning)}`;
    }
    case "register":
      return `register ${event.name} ${event.op === "write" ? "<-" : "->"} ${hex(event.value)}`;
    case "invalidation":
      return `invalidate ${event.descriptor}  ${style.dim(`removed ${event.removed}`)}`;
    case "request":
      return `request  ${event.request}  ${style.dim(event.status)}`;
    case "translation": {
      const pasid = event.pasid === undefined ? "" : ` PASID ${event.pasid}`;
      const result = event.pa === undefined ? style.bad("blocked") : `-> ${hex(event.pa)}`;
      const source = event.source === "iotlb" ? "IOTLB hit" : event.source === "walk" ? "IOTLB miss, walk" : "translation off";
      return `dma      ${event.access} ${hex(event.iova)} by ${formatRid(event.rid)}${pasid} ${result}  ${style.dim(source)}`;
    }
    case "interrupt": {
      const result = event.result === "blocked" ? style.bad("blocked") : event.result;
      return `message  ${hex(event.data)} to ${hex(event.address)} by ${formatRid(event.rid)}  ${result}`;
    }
    case "page-request": {
      const pasid = event.pasid === undefined ? "" : ` PASID ${event.pasid}`;
      const result = event.result === "queued" ? event.result : `answered by the unit: ${event.result}`;
      return `page     ${event.access} ${hex(event.address)} wanted by ${formatRid(event.rid)}${pasid}  ${style.dim(`group ${event.group}, ${result}`)}`;
    }
    case "report":
      return `driver   ${event.text}  ${style.dim(`number ${event.count}`)}`;
    case "uevent":
      return `uevent   ${event.action}@${event.path}  ${style.dim(Object.entries(event.fields).map(([name, value]) => `${name}=${value}`).join(" "))}`;
    default:
      return `${style.bad("fault")}    ${event.record}`;
  }
}
