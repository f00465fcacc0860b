import { IommuError, type Machine, SimulatedClient } from "@iommukit/core";
import { decodeStruct, encodeStruct, structLayout } from "@iommukit/core/abi";

const RECORD = structLayout("iommu_hwpt_pgfault").size;
/** iommu_hwpt_alloc.flags */
const FAULT_ID_VALID = 4;
const PASID = 8;

/** One program with one iommufd: address spaces, page tables, fault queues by the calls of the uAPI. */
export class Program {
  readonly machine: Machine;
  readonly client: SimulatedClient;
  readonly iommufd: number;

  constructor(machine: Machine) {
    this.machine = machine;
    this.client = new SimulatedClient(machine.nodes);
    this.iommufd = this.client.open("/dev/iommu");
  }

  ioctl(name: string, fields: Readonly<Record<string, number | bigint>> = {}, fd: number = this.iommufd): Readonly<Record<string, unknown>> {
    return this.client.ioctl(fd, name, fields);
  }

  ioas(): number {
    return Number(this.ioctl("IOMMU_IOAS_ALLOC").out_ioas_id);
  }

  /** Maps a fresh page at `iova`, and returns it. */
  page(ioas: number, iova: bigint): Uint8Array {
    const { address, bytes } = this.client.memory.map(4096);
    this.ioctl("IOMMU_IOAS_MAP", { flags: 7, ioas_id: ioas, user_va: address, length: 4096, iova });
    return bytes;
  }

  queue(): { id: number; fd: number } {
    const { out_fault_id: id, out_fault_fd: fd } = this.ioctl("IOMMU_FAULT_QUEUE_ALLOC");
    return { id: Number(id), fd: Number(fd) };
  }

  /** A page table for PASIDs of a device; its faults go to the queue, if one is given. */
  table(device: { readonly id: number }, ioas: number, queue?: number): number {
    const flags = PASID | (queue === undefined ? 0 : FAULT_ID_VALID);
    return Number(this.ioctl("IOMMU_HWPT_ALLOC", { flags, dev_id: device.id, pt_id: ioas, fault_id: queue ?? 0 }).out_hwpt_id);
  }

  /** What a queue has to tell. */
  faults(fd: number): { dev_id: number; pasid: number | undefined; addr: bigint; cookie: number }[] {
    let bytes: Uint8Array;
    try {
      bytes = this.client.read(fd, RECORD * 16);
    } catch (error) {
      if (error instanceof IommuError && error.errno === "EAGAIN") return [];
      throw error;
    }
    return Array.from({ length: bytes.length / RECORD }, (_, i) => {
      const { flags, dev_id, pasid, addr, cookie } = decodeStruct("iommu_hwpt_pgfault", bytes.subarray(i * RECORD, (i + 1) * RECORD));
      return { dev_id: Number(dev_id), pasid: (Number(flags) & 1) === 1 ? Number(pasid) : undefined, addr: BigInt(addr), cookie: Number(cookie) };
    });
  }

  /** @param code 0 success, 1 invalid */
  answer(fd: number, cookie: number, code: number): void {
    this.client.write(fd, encodeStruct("iommu_hwpt_page_response", { cookie, code }));
  }
}
