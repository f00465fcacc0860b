/** The serial card: a 16550A that hears itself, alone and as a VFIO device. */
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { BusRig, HOME, refusal, uuidOf } from "../rig/bus-rig.js";
import { type BoundMdev, Irq, MdevClient } from "../rig/mdev-client.js";
import { serialDriver } from "./serial.js";
import { Cause, Enable, Fifo, Line, LineControl, Modem, ModemControl, Uart, UartRegister as R } from "./uart.js";

const IDLE = Line.HOLDING_EMPTY | Line.EMPTY;

describe("a port", () => {
  let port: Uart;
  let changes: number;
  beforeEach(() => {
    changes = 0;
    port = new Uart(() => changes++);
  });
  const send = (...bytes: number[]): void => bytes.forEach((byte) => port.write(R.DATA, byte));
  const fifo = (trigger: number): void => port.write(R.FCR, Fifo.ENABLE | (trigger << 6));

  it("hears what it sends, in order", () => {
    fifo(0);
    send(1, 2, 3);
    expect(port.read(R.LSR)).toBe(IDLE | Line.READY);
    expect([port.read(R.DATA), port.read(R.DATA), port.read(R.DATA)]).toEqual([1, 2, 3]);
    expect([port.read(R.LSR), port.read(R.DATA)]).toEqual([IDLE, 0]);
  });

  it("loses a byte that comes too early: the newer one with a FIFO, the older one without", () => {
    send(1, 2);
    expect(port.read(R.LSR)).toBe(IDLE | Line.READY | Line.OVERRUN);
    expect([port.read(R.LSR), port.read(R.DATA)]).toEqual([IDLE | Line.READY, 2]);
    fifo(0);
    send(...Array.from({ length: 17 }, (_, i) => i));
    expect(port.read(R.LSR) & Line.OVERRUN).toBe(Line.OVERRUN);
    expect(Array.from({ length: 17 }, () => port.read(R.DATA))).toEqual([...Array.from({ length: 16 }, (_, i) => i), 0]);
  });

  it.each([[0, 1], [1, 4], [2, 8], [3, 14]])("with trigger level %d interrupts at %d bytes, and below by timeout", (code, level) => {
    fifo(code);
    port.write(R.IER, Enable.RECEIVED);
    expect([port.read(R.IIR), port.interrupts]).toEqual([0xc0 | Cause.NONE, false]);
    for (let count = 1; count <= 16; count++) {
      send(count);
      expect([port.read(R.IIR), port.interrupts]).toEqual([0xc0 | (count >= level ? Cause.RECEIVED : Cause.TIMEOUT), true]);
    }
    for (let count = 15; count >= 0; count--) {
      port.read(R.DATA);
      expect(port.read(R.IIR)).toBe(0xc0 | (count === 0 ? Cause.NONE : count >= level ? Cause.RECEIVED : Cause.TIMEOUT));
    }
  });

  it("interrupts with an empty transmitter when that is asked for, and after each byte, until it is seen", () => {
    port.write(R.IER, Enable.TRANSMITTER);
    expect([port.read(R.IIR), port.read(R.IIR)]).toEqual([Cause.TRANSMITTER, Cause.NONE]);
    port.write(R.IER, Enable.TRANSMITTER);
    expect(port.read(R.IIR)).toBe(Cause.NONE);
    send(1);
    expect([port.read(R.IIR), port.read(R.IIR)]).toEqual([Cause.TRANSMITTER, Cause.NONE]);
  });

  it("tells the most urgent cause first", () => {
    port.write(R.IER, 0xff);
    expect(port.read(R.IER)).toBe(0xf);
    port.write(R.MCR, ModemControl.RTS);
    send(1, 2);
    expect(port.read(R.IIR)).toBe(Cause.LINE);
    port.read(R.LSR);
    expect(port.read(R.IIR)).toBe(Cause.RECEIVED);
    port.read(R.DATA);
    expect(port.read(R.IIR)).toBe(Cause.TRANSMITTER);
    expect(port.read(R.IIR)).toBe(Cause.MODEM);
    expect(port.read(R.MSR)).toBe(Modem.CTS | (Modem.CTS >> 4));
    expect([port.read(R.IIR), port.read(R.MSR)]).toEqual([Cause.NONE, Modem.CTS]);
  });

  it("keeps both halves of its divisor, which can be made smaller again", () => {
    port.write(R.LCR, LineControl.DIVISOR | 3);
    port.write(R.DATA, 0xff);
    port.write(R.IER, 0x12);
    port.write(R.DATA, 0x01);
    expect([port.read(R.DATA), port.read(R.IER), port.read(R.LCR)]).toEqual([0x01, 0x12, 0x83]);
    port.write(R.LCR, 3);
    expect([port.read(R.DATA), port.read(R.IER)]).toEqual([0, 0]);
  });

  it("clears its FIFO on demand, and with its enable; other bits count with the enable only", () => {
    fifo(3);
    send(1, 2);
    port.write(R.FCR, Fifo.ENABLE | Fifo.CLEAR_TRANSMITTER | 0xc0);
    expect(port.read(R.LSR) & Line.READY).toBe(1);
    port.write(R.FCR, Fifo.ENABLE | Fifo.CLEAR_RECEIVER | 0xc0);
    expect(port.read(R.LSR) & Line.READY).toBe(0);
    send(1, 2);
    port.write(R.FCR, 0xc0);
    expect([port.read(R.LSR) & Line.READY, port.read(R.IIR)]).toEqual([0, Cause.NONE]);
  });

  it("breaks the line once for each time it is asked to", () => {
    fifo(0);
    send(7);
    port.write(R.LCR, LineControl.BREAK | 3);
    port.write(R.LCR, LineControl.BREAK | 3);
    expect(port.read(R.LSR)).toBe(IDLE | Line.READY | Line.FIFO_ERROR);
    expect(port.read(R.DATA)).toBe(7);
    expect(port.read(R.LSR)).toBe(IDLE | Line.READY | Line.BREAK | Line.FIFO_ERROR);
    expect(port.read(R.LSR)).toBe(IDLE | Line.READY);
    expect([port.read(R.DATA), port.read(R.LSR)]).toEqual([0, IDLE]);
  });

  it("sends words of the length that is set", () => {
    send(0xff);
    expect(port.read(R.DATA)).toBe(0x1f);
    port.write(R.LCR, 3);
    send(0xff);
    expect(port.read(R.DATA)).toBe(0xff);
  });

  it("leads its modem lines back, by the wire and in its own loop", () => {
    port.write(R.MCR, ModemControl.DTR);
    expect(port.read(R.MSR)).toBe(Modem.DSR | Modem.DCD | ((Modem.DSR | Modem.DCD) >> 4));
    port.write(R.MCR, ModemControl.LOOP | ModemControl.OUT1 | ModemControl.DTR);
    expect(port.read(R.MSR)).toBe(Modem.DSR | Modem.RI | (Modem.DCD >> 4));
    port.write(R.MCR, ModemControl.LOOP | ModemControl.OUT2);
    expect(port.read(R.MSR)).toBe(Modem.DCD | ((Modem.DSR | Modem.DCD | Modem.RI) >> 4));
    expect(port.read(R.MCR)).toBe(ModemControl.LOOP | ModemControl.OUT2);
  });

  it("says of each change that its interrupt may have changed", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 0, max: 7 }), fc.integer({ min: 0, max: 255 })), { maxLength: 60 }), (steps) => {
        const told: boolean[] = [false];
        const own: Uart = new Uart(() => told.push(own.interrupts));
        for (const [writes, register, value] of steps) {
          if (writes) own.write(register, value);
          else own.read(register);
          expect(told.at(-1)).toBe(own.interrupts);
        }
        own.reset();
        expect([own.interrupts, own.read(R.LSR), own.read(R.IER)]).toEqual([false, IDLE, 0]);
      }),
    );
  });
});

describe("a card", () => {
  let rig: BusRig;
  let client: MdevClient;
  beforeEach(() => {
    rig = new BusRig();
    rig.bus.register(serialDriver.createParent({ ports: 5 }), { name: "serial", home: HOME });
    client = new MdevClient(rig.nodes);
  });
  const make = (type: string, n: number): string => refusal(() => rig.bus.create("serial", type, uuidOf(n)));
  const open = (type: string, n: number): BoundMdev => {
    make(type, n);
    return client.bind(rig.bus.devices().find(({ uuid }) => uuid === uuidOf(n))?.node ?? "none");
  };
  const available = (): (string | undefined)[] => ["1", "2"].map((type) => rig.text(`${HOME}/mdev_supported_types/serial-${type}/available_instances`));

  it("takes its ports out of the parent's", () => {
    expect(available()).toEqual(["5\n", "2\n"]);
    expect([make("serial-2", 1), available()]).toEqual(["none", ["3\n", "1\n"]]);
    expect([make("serial-2", 2), available()]).toEqual(["none", ["1\n", "0\n"]]);
    expect([make("serial-2", 3), available()]).toEqual(["ENOSPC", ["1\n", "0\n"]]);
    expect([make("serial-1", 3), available()]).toEqual(["none", ["0\n", "0\n"]]);
    rig.bus.remove(uuidOf(1));
    expect(available()).toEqual(["2\n", "1\n"]);
    expect(rig.text(`${HOME}/${uuidOf(2)}/vendor/ports`)).toBe("2\n");
  });

  it.each([[{ ports: 0 }], [{ ports: 1.5 }], [{ ports: "24" }], [{ ports: 1025 }], [{ prots: 24 }]])("refuses %j", (options) => {
    expect(() => serialDriver.createParent(options)).toThrow(RangeError);
  });

  it("shows what a program looks for", () => {
    const card = open("serial-2", 1);
    expect([...client.pread(card.fd, 7n << 40n, 12)]).toEqual([0x48, 0x43, 0x53, 0x32, 3, 0, 0x10, 0, 0x10, 2, 0, 7]);
    expect(client.ioctl(card.fd, "VFIO_DEVICE_GET_INFO")).toMatchObject({ flags: 3, num_regions: 9, num_irqs: 5 });
    const sizes = [0, 1, 2, 7].map((index) => Number(client.ioctl(card.fd, "VFIO_DEVICE_GET_REGION_INFO", { index }).size));
    expect(sizes).toEqual([8, 8, 0, 256]);
    const counts = [0, 1, 2].map((index) => Number(client.ioctl(card.fd, "VFIO_DEVICE_GET_IRQ_INFO", { index }).count));
    expect(counts).toEqual([1, 1, 0]);
    // A BAR in I/O space: all ones come back as its size, with bit 0 set.
    client.put(card, 0x10, 0xffff_ffff, 4, 7);
    expect(client.get(card, 0x10, 4, 7)).toBe(0xffff_fff9);
  });

  it("has ports that do not hear each other, and answers without memory space", () => {
    const card = open("serial-2", 1);
    client.command(card, 0);
    client.put(card, R.LCR, 3, 1, 0);
    client.put(card, R.LCR, 3, 1, 1);
    client.put(card, R.DATA, 0x41, 1, 0);
    expect([client.get(card, R.LSR, 1, 1), client.get(card, R.LSR, 1, 0), client.get(card, R.DATA, 1, 0)]).toEqual([0x60, 0x61, 0x41]);
  });

  it("interrupts by INTx, masked until the client unmasks it", () => {
    const card = open("serial-1", 1);
    const event = client.interruptOn(card, Irq.INTX);
    client.put(card, R.IER, Enable.RECEIVED, 1);
    client.put(card, R.DATA, 1, 1);
    expect(client.eventCount(event)).toBe(1);
    client.unmaskIntx(card);
    expect(client.eventCount(event)).toBe(1);
    client.get(card, R.DATA, 1);
    client.unmaskIntx(card);
    expect(client.eventCount(event)).toBe(0);
  });

  it("interrupts by MSI once for each time that its line rises", () => {
    const card = open("serial-2", 1);
    const event = client.interruptOn(card, Irq.MSI);
    for (const bar of [0, 1]) client.put(card, R.IER, Enable.RECEIVED, 1, bar);
    client.put(card, R.DATA, 1, 1, 0);
    client.put(card, R.DATA, 1, 1, 1);
    expect(client.eventCount(event)).toBe(1);
    client.get(card, R.DATA, 1, 0);
    client.get(card, R.DATA, 1, 1);
    client.put(card, R.DATA, 1, 1, 1);
    expect(client.eventCount(event)).toBe(1);
  });

  it("forgets everything by a reset, and with the last close", () => {
    const card = open("serial-1", 1);
    client.put(card, R.SCR, 0x55, 1);
    client.put(card, R.DATA, 1, 1);
    client.ioctl(card.fd, "VFIO_DEVICE_RESET");
    expect([client.get(card, R.SCR, 1), client.get(card, R.LSR, 1)]).toEqual([0, 0x60]);
    client.put(card, R.SCR, 0x55, 1);
    client.close(card.fd);
    const again = client.bind("vfio0");
    expect(client.get(again, R.SCR, 1)).toBe(0);
  });
});
