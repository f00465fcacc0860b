/** The descriptor of a test access: it pins, reads and writes by IOVA, and goes with its last close. */
import { refuse } from "../../errors.js";
import type { KernelFile } from "../../files/types.js";
import type { Access } from "../../iommufd/access.js";
import type { IommufdContext } from "../../iommufd/context.js";
import type { Interval } from "../../memory/interval.js";

interface Item {
  readonly iova: bigint;
  readonly length: bigint;
}

export class AccessFile implements KernelFile {
  readonly path = "anon_inode:[iommufd_test_staccess]";
  readonly access: Access;
  readonly #context: IommufdContext;
  readonly #items = new Map<number, Item>();
  nextItem = 0;

  constructor(context: IommufdContext, pins: boolean) {
    this.#context = context;
    context.hold();
    this.access = context.newAccess({ pins, unmapping: (range) => this.#letGo(range) });
  }

  add(iova: bigint, length: bigint): void {
    this.#items.set(this.nextItem++, { iova, length });
  }

  /** @throws IommuError ENOENT */
  remove(id: number): void {
    const item = this.#items.get(id) ?? refuse("ENOENT", `no pinned item ${id}`, { argument: "access_pages_id" });
    this.#items.delete(id);
    this.access.unpin(item.iova, item.length);
  }

  #letGo(range: Interval): void {
    for (const [id, { iova, length }] of [...this.#items]) {
      if (iova <= range.last && iova + length - 1n >= range.start) this.remove(id);
    }
  }

  ioctl(): number {
    return refuse("ENOTTY", "a test access takes no ioctl", { argument: "request" });
  }

  release(): void {
    this.#letGo({ start: 0n, last: 0xffff_ffff_ffff_ffffn });
    this.#context.removeAccess(this.access);
    this.#context.put();
  }
}
