/** Requester ids: bus 15:8, device 7:3, function 2:0. */

/** "00:03.0" */
export function formatRid(rid: number): string {
  const hex = (value: number): string => value.toString(16).padStart(2, "0");
  return `${hex(rid >> 8)}:${hex((rid >> 3) & 31)}.${rid & 7}`;
}

/** "00:03.0", "0000:00:03.0" or "0x18". Throws RangeError. */
export function parseRid(text: string): number {
  if (/^0x[0-9a-f]{1,4}$/i.test(text)) return Number.parseInt(text, 16);
  const match = /^(?:0000:)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$/i.exec(text);
  const device = match ? Number.parseInt(match[2], 16) : 32;
  if (match === null || device > 31) throw new RangeError(`"${text}" is not a requester id such as 00:03.0`);
  return (Number.parseInt(match[1], 16) << 8) | (device << 3) | Number(match[3]);
}
