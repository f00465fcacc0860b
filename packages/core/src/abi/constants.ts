/** A named enumeration of a header. */
export interface ConstantGroup {
  /** "" for an anonymous one. */
  readonly name: string;
  readonly values: Readonly<Record<string, number>>;
}
