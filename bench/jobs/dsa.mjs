/**
 * dsa.mjs move|ats|flight|heap: a DSA function behind a VT-d unit with nested translation. `move`: MB/s of 64 KiB moves, each page translated by
 * the unit; `ats`: the same through the device's own cache. `flight`: 100,000 descriptors in the device at once. `heap`: what 10 million
 * descriptors leave behind. Needs --expose-gc.
 */
import { Bus } from "../../packages/core/dist/index.js";
import { DESCRIPTOR_BYTES, DsaCommand, DsaField, DsaFlag, dsaModel, DsaOpcode, DsaRegister, DsaTable, GrpWord, WqWord } from "../../packages/mdev/dist/dsa/index.js";
import { nestedBoard, print } from "./common.mjs";

const PAGES = 16384;
const RID = 0x18;
const PAGE = 4096;
/** Records and lists of batches lie in the first pages. */
const FIRST = 1024;
const DEDICATED = 0x11;

function deviceWith(options, queues = 1, size = 128) {
  const { memory, unit } = nestedBoard(PAGES, {}, options.ats);
  memory.addRam(2 ** 32, 2 ** 28);
  const port = new Bus(memory).connect(RID, unit);
  const device = dsaModel.create(port, { ats: false, pri: false, pasid: false, entries: queues * size, workQueues: queues, ...options }, { interrupt() {} });
  const write = (offset, value) => device.writeBar(0, offset, 4, BigInt(value));
  for (let queue = 0; queue < queues; queue++) {
    write(DsaTable.WQCFG + 64 * queue + 4 * WqWord.SIZE, size);
    write(DsaTable.WQCFG + 64 * queue + 4 * WqWord.MODE, DEDICATED);
  }
  write(DsaTable.GRPCFG + 4 * GrpWord.QUEUES, 2 ** queues - 1);
  write(DsaTable.GRPCFG + 4 * GrpWord.ENGINES, 1);
  const command = (number, operand = 0) => {
    write(DsaRegister.CMD, number * 2 ** 20 + operand);
    const status = Number(device.readBar(0, DsaRegister.CMDSTS, 4));
    if (status !== 0) throw new Error(`command ${number}: 0x${status.toString(16)}`);
  };
  command(DsaCommand.ENABLE_DEVICE);
  for (let queue = 0; queue < queues; queue++) command(DsaCommand.ENABLE_WQ, queue);
  return { device, port };
}

function descriptor(opcode, source, destination, size, flags = 0, completion = 0) {
  const bytes = new Uint8Array(DESCRIPTOR_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(DsaField.FLAGS, flags, true);
  bytes[DsaField.OPCODE] = opcode;
  view.setBigUint64(DsaField.COMPLETION, BigInt(completion), true);
  view.setBigUint64(DsaField.SOURCE, BigInt(source), true);
  view.setBigUint64(DsaField.DESTINATION, BigInt(destination), true);
  view.setUint32(DsaField.SIZE, size, true);
  return bytes;
}

const RECORDED = DsaFlag.COMPLETION_VALID | DsaFlag.REQUEST_COMPLETION;
const portal = (queue) => queue * 4 * PAGE;

function submit({ device }, bytes, queue = 0) {
  device.writeBlock(2, portal(queue), bytes, false);
}

/** Megabytes a second, from one half of the mapped pages to the other, in moves of `size` bytes. */
function move(options, size) {
  const board = deviceWith(options);
  const half = ((PAGES - FIRST) / 2) * PAGE;
  const list = Array.from({ length: half / size }, (_, i) => descriptor(DsaOpcode.MEMMOVE, FIRST * PAGE + i * size, FIRST * PAGE + half + i * size, size, RECORDED, 32 * (i % 128)));
  const run = () => list.forEach((bytes) => submit(board, bytes));
  run();
  const status = new Uint8Array(1);
  board.port.read(0n, status);
  if (status[0] !== 1) throw new Error(`a move ended with ${status[0]}`);
  let bytes = 0;
  const start = process.hrtime.bigint();
  for (; bytes < 2 ** 31; bytes += half) run();
  return bytes / (Number(process.hrtime.bigint() - start) / 1e3);
}

/** Fills a queue of 65,535 with no-ops and batches of 1,000 of them, then has the engine do them all. */
function flight() {
  const entries = 0xffff;
  const board = deviceWith({ engine: "manual" }, 1, entries);
  const [batches, members] = [36, 1000];
  const noop = descriptor(DsaOpcode.NOOP, 0, 0, 0);
  for (let i = 0; i < members; i++) board.port.write(BigInt(16 * PAGE + 64 * i), noop);
  for (let i = 0; i < entries - batches; i++) submit(board, noop);
  for (let i = 0; i < batches; i++) submit(board, descriptor(DsaOpcode.BATCH, 16 * PAGE, 0, members, RECORDED, 32 * i));
  const waiting = board.device.queueState(0).occupancy + batches * (members - 1);
  const start = process.hrtime.bigint();
  while (board.device.engines[0].step());
  const ns = Number(process.hrtime.bigint() - start) / waiting;
  const record = new Uint8Array(32);
  for (let i = 0; i < batches; i++) {
    board.port.read(BigInt(32 * i), record);
    if (record[0] !== 1 || record[4] + 256 * record[5] !== members) throw new Error(`batch ${i}: status ${record[0]}`);
  }
  return { waiting, ns };
}

/** Bytes of heap that 10 million descriptors leave, and how long each takes. */
function heap() {
  const board = deviceWith({});
  const moves = Array.from({ length: 64 }, (_, i) => descriptor(DsaOpcode.MEMMOVE, (FIRST + i) * PAGE, (FIRST + 128 + i) * PAGE, 64, RECORDED, 32 * i));
  const run = (count) => {
    for (let i = 0; i < count; i++) submit(board, moves[i % 64]);
  };
  run(200_000);
  gc();
  const before = process.memoryUsage().heapUsed;
  const start = process.hrtime.bigint();
  run(10_000_000);
  const ns = Number(process.hrtime.bigint() - start) / 10_000_000;
  gc();
  return { bytes: process.memoryUsage().heapUsed - before, ns };
}

const JOBS = {
  move: () => ({ rate: move({}, 65536) }),
  ats: () => ({ rate: move({ ats: true }, 65536) }),
  flight,
  heap,
};
print(JOBS[process.argv[2]]());
