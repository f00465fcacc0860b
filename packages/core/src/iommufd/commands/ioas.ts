/** Commands on address spaces as such: alloc, ranges, options, the container's pointer (iommufd facts, 4.1 to 4.9). */
import { refuse } from "../../errors.js";
import { IommufdContext } from "../context.js";
import { IntervalTree } from "../../memory/interval-tree.js";
import { Ioas } from "../ioas.js";
import { big, type Handler, hex, mustBeZero, number } from "./command.js";

const OPTION_SET = 0;
const OPTION_GET = 1;
const OPTION_RLIMIT_MODE = 0;
const OPTION_HUGE_PAGES = 1;
const VFIO_IOAS_GET = 0;
const VFIO_IOAS_SET = 1;
const VFIO_IOAS_CLEAR = 2;

export const IOAS_HANDLERS: Readonly<Record<string, Handler>> = {
  IOMMU_DESTROY: {
    copyOut: false,
    run(context, _call, values) {
      context.objects.destroy(number(values, "id"));
      return undefined;
    },
  },

  IOMMU_IOAS_ALLOC: {
    copyOut: true,
    run(context, _call, values) {
      mustBeZero(values, "flags");
      const ioas = context.newIoas();
      values.out_ioas_id = ioas.id;
      return { publish: ioas };
    },
  },

  IOMMU_IOAS_ALLOW_IOVAS: {
    copyOut: false,
    run(context, call, values) {
      mustBeZero(values, "__reserved");
      const ioas = context.objects.find(number(values, "ioas_id"), Ioas, "ioas_id");
      const allowed = new IntervalTree<undefined>();
      const bytes = new Uint8Array(16);
      const view = new DataView(bytes.buffer);
      for (let i = 0; i < number(values, "num_iovas"); i++) {
        call.memory.read(big(values, "allowed_iovas") + BigInt(16 * i), bytes);
        const next = { start: view.getBigUint64(0, true), last: view.getBigUint64(8, true) };
        if (next.start >= next.last) refuse("EINVAL", `allowed_iovas[${i}]: start ${hex(next.start)} is not below last ${hex(next.last)}`, { argument: "allowed_iovas" });
        const other = allowed.first(next.start, next.last);
        if (other) refuse("EINVAL", `allowed_iovas[${i}] overlaps ${hex(other.start)}-${hex(other.last)}`, { argument: "allowed_iovas" });
        allowed.add(next.start, next.last, undefined);
      }
      ioas.allow([...allowed]);
      return undefined;
    },
  },

  IOMMU_IOAS_IOVA_RANGES: {
    copyOut: true,
    copyOutOn: "EMSGSIZE",
    run(context, call, values) {
      mustBeZero(values, "__reserved");
      const ioas = context.objects.find(number(values, "ioas_id"), Ioas, "ioas_id");
      const ranges = ioas.usableRanges();
      const room = number(values, "num_iovas");
      const bytes = new Uint8Array(16);
      const view = new DataView(bytes.buffer);
      for (const [i, { start, last }] of ranges.slice(0, room).entries()) {
        view.setBigUint64(0, start, true);
        view.setBigUint64(8, last, true);
        call.memory.write(big(values, "allowed_iovas") + BigInt(16 * i), bytes);
      }
      values.num_iovas = ranges.length;
      values.out_iova_alignment = ioas.alignment;
      if (ranges.length > room) refuse("EMSGSIZE", `there are ${ranges.length} ranges, room for ${room}`, { argument: "num_iovas" });
      return undefined;
    },
  },

  IOMMU_OPTION: {
    copyOut: true,
    copyOutField: "val64",
    run(context, call, values) {
      mustBeZero(values, "__reserved");
      const op = number(values, "op");
      const option = number(values, "option_id");
      const known = op === OPTION_SET || op === OPTION_GET;
      if (option === OPTION_RLIMIT_MODE) {
        if (number(values, "object_id") !== 0) refuse("EOPNOTSUPP", "RLIMIT_MODE belongs to no object", { argument: "object_id" });
        if (op === OPTION_GET) values.val64 = BigInt(context.rlimitMode);
        else if (op === OPTION_SET) {
          IommufdContext.requireCapability(call, "SYS_RESOURCE", "op");
          if (context.objects.size > 0) refuse("EBUSY", "RLIMIT_MODE is set before the first object is made", { argument: "op" });
          if (big(values, "val64") > 1n) refuse("EINVAL", `val64 ${big(values, "val64")} is neither 0 nor 1`, { argument: "val64" });
          context.rlimitMode = number(values, "val64");
        }
      } else if (option === OPTION_HUGE_PAGES) {
        const ioas = context.objects.find(number(values, "object_id"), Ioas, "object_id");
        if (op === OPTION_GET) values.val64 = ioas.hugePages ? 1n : 0n;
        else if (op === OPTION_SET) {
          if (big(values, "val64") > 1n) refuse("EINVAL", `val64 ${big(values, "val64")} is neither 0 nor 1`, { argument: "val64" });
          if (big(values, "val64") === 0n) ioas.disableHugePages();
          else ioas.hugePages = true;
        }
      } else return refuse("EOPNOTSUPP", `option_id ${option} is not known`, { argument: "option_id" });
      return known ? undefined : refuse("EOPNOTSUPP", `op ${op} is neither SET nor GET`, { argument: "op" });
    },
  },

  IOMMU_VFIO_IOAS: {
    copyOut: false,
    run(context, call, values, argument) {
      mustBeZero(values, "__reserved");
      const op = number(values, "op");
      if (op === VFIO_IOAS_GET) {
        const ioas = context.compatIoas ?? refuse("ENODEV", "no IOAS is set for VFIO container requests", { argument: "op" });
        values.ioas_id = ioas.id;
        const id = new Uint8Array(Uint32Array.of(ioas.id).buffer);
        argument.bytes.set(id, 4);
        call.memory.write(argument.address, argument.bytes);
        return undefined;
      }
      if (op === VFIO_IOAS_SET) context.compatIoas = context.objects.find(number(values, "ioas_id"), Ioas, "ioas_id");
      else if (op === VFIO_IOAS_CLEAR) context.compatIoas = undefined;
      else refuse("EOPNOTSUPP", `op ${op} is none of GET, SET, CLEAR`, { argument: "op" });
      return undefined;
    },
  },
};
