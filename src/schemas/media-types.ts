/** A record a line: the first is what we answer with, the others are what senders call it. */
export const LINE_TYPES = ['application/x-ndjson', 'application/ndjson', 'application/jsonl'] as const
