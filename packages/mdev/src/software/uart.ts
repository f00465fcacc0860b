/**
 * A 16550A whose wire leads back to itself (National Semiconductor PC16550D data sheet, section 8): what is sent is received, DTR comes
 * back as DSR and DCD, RTS as CTS. No time passes on the wire: the transmitter is always empty, and a byte that lies in the FIFO below the
 * trigger level has waited long enough for the timeout interrupt.
 */

/** Registers by offset; the first two are the divisor's while LCR says so. */
export const UartRegister = { DATA: 0, IER: 1, IIR: 2, FCR: 2, LCR: 3, MCR: 4, LSR: 5, MSR: 6, SCR: 7 } as const;

/** Interrupt enables, and in IIR what interrupts, the first of these that does (table IV). */
export const Enable = { RECEIVED: 1, TRANSMITTER: 2, LINE: 4, MODEM: 8 } as const;
export const Cause = { LINE: 0x6, RECEIVED: 0x4, TIMEOUT: 0xc, TRANSMITTER: 0x2, MODEM: 0x0, NONE: 0x1 } as const;
export const Fifo = { ENABLE: 1, CLEAR_RECEIVER: 2, CLEAR_TRANSMITTER: 4 } as const;
export const Line = { READY: 1, OVERRUN: 2, BREAK: 0x10, HOLDING_EMPTY: 0x20, EMPTY: 0x40, FIFO_ERROR: 0x80 } as const;
export const LineControl = { BREAK: 0x40, DIVISOR: 0x80 } as const;
export const ModemControl = { DTR: 1, RTS: 2, OUT1: 4, OUT2: 8, LOOP: 0x10 } as const;
export const Modem = { CTS: 0x10, DSR: 0x20, RI: 0x40, DCD: 0x80 } as const;

const FIFO_BYTES = 16;
const FIFO_ON = 0xc0;
/** By bits 7:6 of FCR. */
const TRIGGERS = [1, 4, 8, 14] as const;
const LINE_ERRORS = Line.OVERRUN | Line.BREAK;
/** Delta bits lie four below their signal; that of RI only tells its trailing edge. */
const DELTAS = 0x0f;
const DELTA_RING = 4;

interface Received {
  readonly byte: number;
  readonly broken: boolean;
}

export class Uart {
  readonly #changed: () => void;
  #received: Received[] = [];
  #enabled = 0;
  #fifo = 0;
  #lineControl = 0;
  #modemControl = 0;
  #overrun = false;
  /** Nobody has seen yet that the holding register is empty. */
  #sent = false;
  #modem = 0;
  #scratch = 0;
  #divisor = 1;

  /** @param changed whether it interrupts may have changed */
  constructor(changed: () => void) {
    this.#changed = changed;
  }

  reset(): void {
    this.#received = [];
    this.#enabled = 0;
    this.#fifo = 0;
    this.#lineControl = 0;
    this.#modemControl = 0;
    this.#overrun = false;
    this.#sent = false;
    this.#modem = 0;
    this.#scratch = 0;
    this.#divisor = 1;
    this.#changed();
  }

  get #usesFifo(): boolean {
    return (this.#fifo & Fifo.ENABLE) !== 0;
  }

  get #trigger(): number {
    return this.#usesFifo ? TRIGGERS[this.#fifo >> 6] : 1;
  }

  get interrupts(): boolean {
    return this.#cause !== Cause.NONE;
  }

  /** Of several, the one of highest priority. */
  get #cause(): number {
    const waiting = this.#received.length;
    if ((this.#enabled & Enable.LINE) !== 0 && (this.#lineStatus & LINE_ERRORS) !== 0) return Cause.LINE;
    if ((this.#enabled & Enable.RECEIVED) !== 0 && waiting > 0) return waiting >= this.#trigger ? Cause.RECEIVED : Cause.TIMEOUT;
    if ((this.#enabled & Enable.TRANSMITTER) !== 0 && this.#sent) return Cause.TRANSMITTER;
    if ((this.#enabled & Enable.MODEM) !== 0 && (this.#modem & DELTAS) !== 0) return Cause.MODEM;
    return Cause.NONE;
  }

  get #lineStatus(): number {
    const [first] = this.#received;
    const inFifo = this.#usesFifo && this.#received.some(({ broken }) => broken);
    return Line.HOLDING_EMPTY | Line.EMPTY | (first ? Line.READY : 0) | (this.#overrun ? Line.OVERRUN : 0) | (first?.broken ? Line.BREAK : 0) | (inFifo ? Line.FIFO_ERROR : 0);
  }

  read(register: number): number {
    const divisor = (this.#lineControl & LineControl.DIVISOR) !== 0;
    switch (register) {
      case UartRegister.DATA:
        return divisor ? this.#divisor & 0xff : this.#take();
      case UartRegister.IER:
        return divisor ? this.#divisor >> 8 : this.#enabled;
      case UartRegister.IIR: {
        const cause = this.#cause;
        if (cause === Cause.TRANSMITTER) this.#sent = false;
        this.#changed();
        return cause | (this.#usesFifo ? FIFO_ON : 0);
      }
      case UartRegister.LCR:
        return this.#lineControl;
      case UartRegister.MCR:
        return this.#modemControl;
      case UartRegister.LSR:
        return this.#readLineStatus();
      case UartRegister.MSR: {
        const status = this.#modem;
        this.#modem &= ~DELTAS;
        this.#changed();
        return status;
      }
      default:
        return this.#scratch;
    }
  }

  write(register: number, value: number): void {
    const divisor = (this.#lineControl & LineControl.DIVISOR) !== 0;
    switch (register) {
      case UartRegister.DATA:
        if (divisor) this.#divisor = (this.#divisor & 0xff00) | value;
        else this.#send(value);
        break;
      case UartRegister.IER:
        if (divisor) this.#divisor = (this.#divisor & 0xff) | (value << 8);
        else this.#enable(value & 0xf);
        break;
      case UartRegister.FCR:
        this.#controlFifo(value);
        break;
      case UartRegister.LCR:
        if ((value & ~this.#lineControl & LineControl.BREAK) !== 0) this.#receive({ byte: 0, broken: true });
        this.#lineControl = value;
        break;
      case UartRegister.MCR:
        this.#controlModem(value & 0x1f);
        break;
      case UartRegister.SCR:
        this.#scratch = value;
        break;
      default: // LSR is for factory tests, MSR is not written
        return;
    }
    this.#changed();
  }

  #take(): number {
    const first = this.#received.shift();
    this.#changed();
    return first?.byte ?? 0;
  }

  /** Reading it clears what it says of errors (8.6.3). */
  #readLineStatus(): number {
    const status = this.#lineStatus;
    this.#overrun = false;
    const [first, ...others] = this.#received;
    if (first?.broken) this.#received = [{ byte: first.byte, broken: false }, ...others];
    this.#changed();
    return status;
  }

  /** A word of 5 to 8 bits. */
  #send(value: number): void {
    this.#receive({ byte: value & (0xff >> (3 - (this.#lineControl & 3))), broken: false });
    this.#sent = true;
  }

  /** Without FIFO a byte that comes too early takes the place of the one before, with it the byte itself is lost. */
  #receive(received: Received): void {
    const room = this.#usesFifo ? FIFO_BYTES : 1;
    const full = this.#received.length >= room;
    if (full) this.#overrun = true;
    if (full && this.#usesFifo) return;
    if (full) this.#received = [];
    this.#received.push(received);
  }

  /** The transmitter is empty: to enable its interrupt is to get it. */
  #enable(value: number): void {
    if ((value & ~this.#enabled & Enable.TRANSMITTER) !== 0) this.#sent = true;
    this.#enabled = value;
  }

  /** Other bits are taken only together with the enable, and a change of that clears both FIFOs (8.4). */
  #controlFifo(value: number): void {
    const on = value & Fifo.ENABLE;
    if (on !== (this.#fifo & Fifo.ENABLE) || (value & (Fifo.ENABLE | Fifo.CLEAR_RECEIVER)) === (Fifo.ENABLE | Fifo.CLEAR_RECEIVER)) this.#received = [];
    this.#fifo = on ? value & (FIFO_ON | Fifo.ENABLE) : 0;
  }

  /** On the wire DTR comes back as DSR and DCD, RTS as CTS; in the chip's own loop OUT1 is RI and OUT2 is DCD (8.7). */
  #controlModem(value: number): void {
    this.#modemControl = value;
    const loop = (value & ModemControl.LOOP) !== 0;
    const signal = (control: number, status: number): number => ((value & control) !== 0 ? status : 0);
    const now =
      signal(ModemControl.RTS, Modem.CTS) | signal(ModemControl.DTR, Modem.DSR) |
      (loop ? signal(ModemControl.OUT1, Modem.RI) | signal(ModemControl.OUT2, Modem.DCD) : signal(ModemControl.DTR, Modem.DCD));
    const before = this.#modem & ~DELTAS;
    const changed = ((now ^ before) >> 4) & ~DELTA_RING;
    const rung = (before & ~now & Modem.RI) !== 0 ? DELTA_RING : 0;
    this.#modem = now | (this.#modem & DELTAS) | changed | rung;
  }
}
