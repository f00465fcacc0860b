/** What the manual has and no configuration of this model causes, and why. */
import { Event } from "../spec/events.js";

export interface Uncaused {
  readonly name: string;
  readonly code?: number;
  readonly text: string;
  readonly section: string;
  readonly why: string;
}

export const UNCAUSED: readonly Uncaused[] = [
  {
    name: "E_PAGE_REQUEST", code: Event.E_PAGE_REQUEST, text: "a device hints that it will access a page", section: "7.3.19",
    why: "it is a hint of a device that is not on PCI Express, and the bus here carries none; PCI devices make page requests (CR0.PRIQEN).",
  },
  {
    name: "F_VMS_FETCH", code: Event.F_VMS_FETCH, text: "the virtual machine structure could not be read", section: "7.3.20",
    why: "only a unit with memory partitioning (IDR3.MPAM) reads virtual machine structures, and that is not modelled.",
  },
  { name: "GERROR.SFM_ERR", text: "the unit is in Service Failure Mode", section: "6.3.18, 12.3", why: "it tells of a broken unit (an uncorrected error of its own memories), and the model does not break." },
  { name: "GERROR.CMDQP_ERR", text: "an enhanced command queue has stopped", section: "6.3.18", why: "enhanced command queues (IDR1.ECMDQ) are not modelled." },
  { name: "GERROR.DPT_ERR", text: "a device permission table could not be used", section: "6.3.18", why: "device permission tables (IDR3.DPT) are not modelled." },
];
