/** What is behind a door: clients, their open files and memory. How their calls get here is a transport's business. */
import { type DeviceNodes, type KernelFile, type MmapRegion, type MmapRequest, refuse, type SharedPages } from "@iommukit/core";
import { Client, type ClientEnvironment } from "./client.js";
import { FrameRegistry } from "./frames.js";
import { OpenFiles } from "./open-files.js";
import { SharedFile } from "./shared-file.js";

/** What clients hold at the moment. */
export interface DoorCounts {
  readonly clients: number;
  readonly openFiles: number;
  /** Ranges of client memory that are pinned for DMA. */
  readonly pins: number;
  /** Mappings of the door's files. */
  readonly mappings: number;
}

/** A mapping of memory that a client is about to make: of which file of this process, from where on. */
export interface MappedPart {
  readonly shared: SharedFile;
  readonly offset: number;
  readonly region: MmapRegion;
}

export class Door {
  readonly nodes: DeviceNodes;
  readonly files: OpenFiles = new OpenFiles();
  readonly #clients = new Map<number, Client>();
  readonly #shared = new Map<SharedPages, SharedFile>();
  readonly #regions = new Set<MmapRegion>();
  readonly #environment: ClientEnvironment;

  /** @param grant capabilities, without CAP_, that every client has besides its own */
  constructor(nodes: DeviceNodes, grant: readonly string[] = []) {
    const frames = new FrameRegistry();
    this.nodes = nodes;
    this.#environment = { frames, grant, user: { locked: 0 }, fileOf: (pid, fd, held) => this.files.of(pid, fd, frames, held) };
  }

  get counts(): DoorCounts {
    return { clients: this.#clients.size, openFiles: this.files.size, pins: this.#environment.frames.size, mappings: this.#regions.size };
  }

  /** Made when it is first asked for. */
  client(pid: number): Client {
    let client = this.#clients.get(pid);
    if (client === undefined) {
      client = new Client(pid, this.#environment);
      this.#clients.set(pid, client);
    }
    return client;
  }

  /** Pages that the process has pinned and locked. */
  pages(pid: number): { readonly pinned: number; readonly locked: number } {
    return this.#clients.get(pid)?.memory.counters ?? { pinned: 0, locked: 0 };
  }

  endClient(pid: number): void {
    this.#clients.get(pid)?.memory.close();
    this.#clients.delete(pid);
  }

  /** @throws IommuError ENODEV unless it is memory that a client can share, or registers whose accesses its transport brings */
  map(file: KernelFile, client: Client, request: MmapRequest): MmapRegion {
    const region = file.mmap?.(client.context(), request);
    if (region === undefined) return refuse("ENODEV", `${file.path} cannot be mapped`, { argument: "fd" });
    if (region.memory === undefined && !client.mapsRegisters) {
      region.unmapped();
      return refuse("ENODEV", "registers of a device cannot be mapped through this door", { argument: "fd" });
    }
    this.#regions.add(region);
    return region;
  }

  /** The memory behind a mapping, in a file; undefined for registers. */
  share(region: MmapRegion): MappedPart | undefined {
    const { memory } = region;
    if (memory === undefined) return undefined;
    let shared = this.#shared.get(memory.pages);
    if (shared === undefined) {
      shared = new SharedFile(memory.pages);
      this.#shared.set(memory.pages, shared);
      this.#environment.frames.addDevice(shared.key);
    }
    return { shared, offset: memory.offset, region };
  }

  unmap(region: MmapRegion): void {
    if (this.#regions.delete(region)) region.unmapped();
  }

  /** Releases everything: what clients do from now on finds nothing. */
  close(): void {
    this.files.releaseAll();
    for (const region of this.#regions) this.unmap(region);
    for (const pid of this.#clients.keys()) this.endClient(pid);
    for (const file of this.#shared.values()) file.close();
    this.#shared.clear();
  }
}
