/** Page requests that a device has out, and who waits for each (PCI Express 6.0, 10.4): every request is a group of its own. */
import { type AtsPort, type PageRequest, type PageResponse, PageResponseCode } from "../bus/ats.js";

/** Page request group indexes are 9 bits wide. */
const GROUPS = 512;
/** Status of the page request interface (10.5.2.3). */
export const PageRequestStatus = { RESPONSE_FAILURE: 1, UNEXPECTED_GROUP: 2 } as const;

type Question = Pick<PageRequest, "pasid" | "page" | "access">;

interface Entry<T> {
  readonly waiter: T;
  readonly question: Question;
}

export class PageRequestClient<T> {
  enabled = false;
  /** Bits of `PageRequestStatus`. */
  status = 0;
  /** Requests that were sent. */
  sent = 0;
  readonly #ats: AtsPort | undefined;
  readonly #most: number;
  readonly #groups = new Map<number, Entry<T>>();
  /** Wait until a group is free. */
  #queue: Entry<T>[] = [];
  #next = 0;
  #sending = false;

  /** @param most requests that may be unanswered at a time */
  constructor(ats: AtsPort | undefined, most: number) {
    this.#ats = ats;
    this.#most = Math.min(most, GROUPS);
  }

  /** True while some request is not answered. */
  get waiting(): boolean {
    return this.#groups.size > 0;
  }

  ask(waiter: T, question: Question): void {
    this.#queue.push({ waiter, question });
    this.#send();
  }

  /** Who waited for the group that was answered; nobody for an answer that was not asked for. */
  answered({ pasid, group, code }: PageResponse): T[] {
    const entry = this.#groups.get(group);
    if (entry === undefined || entry.question.pasid !== pasid) {
      this.status |= PageRequestStatus.UNEXPECTED_GROUP;
      return [];
    }
    this.#groups.delete(group);
    if (code !== PageResponseCode.FAILURE) this.#send();
    return [entry.waiter];
  }

  /** A response failure ends all use of the interface (10.4.2.1). Returns everybody who waited. */
  fail(): T[] {
    this.status |= PageRequestStatus.RESPONSE_FAILURE;
    this.enabled = false;
    const waiters = [...this.#groups.values(), ...this.#queue].map(({ waiter }) => waiter);
    this.#groups.clear();
    this.#queue = [];
    return waiters;
  }

  /** Gives up what waits for a PASID, and sends a stop marker: no more requests of the PASID come, answers to old ones are not waited for. */
  stop(pasid: number): T[] {
    const waiters: T[] = [];
    for (const [group, { waiter, question }] of this.#groups) {
      if (question.pasid !== pasid) continue;
      this.#groups.delete(group);
      waiters.push(waiter);
    }
    for (const { waiter, question } of this.#queue) if (question.pasid === pasid) waiters.push(waiter);
    this.#queue = this.#queue.filter(({ question }) => question.pasid !== pasid);
    this.#ats?.requestPage({ pasid, page: 0, access: 0, group: 0, last: true });
    return waiters;
  }

  reset(): void {
    this.#groups.clear();
    this.#queue = [];
    this.status = 0;
    this.sent = 0;
  }

  /** The answer may come before `requestPage` returns: the group is taken first, and what the answer makes room for is sent by this loop. */
  #send(): void {
    if (this.#sending) return;
    this.#sending = true;
    for (let entry = this.#takeNext(); entry !== undefined; entry = this.#takeNext()) {
      while (this.#groups.has(this.#next)) this.#next = (this.#next + 1) % GROUPS;
      const group = this.#next;
      this.#next = (this.#next + 1) % GROUPS;
      this.#groups.set(group, entry);
      this.sent++;
      this.#ats?.requestPage({ ...entry.question, group, last: true });
    }
    this.#sending = false;
  }

  #takeNext(): Entry<T> | undefined {
    return this.#groups.size < this.#most ? this.#queue.shift() : undefined;
  }
}
