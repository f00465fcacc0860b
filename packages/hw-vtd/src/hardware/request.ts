/** Kinds of requests, as a fault record tells them apart (VT-d 3.1, 4.2, 11.4.7.6): AT for the first three, T2 and T1 for a page request. */
export const RequestKind = { UNTRANSLATED: 0, TRANSLATION: 1, TRANSLATED: 2, PAGE: 3 } as const;
