/** One record per line. Senders and readers may use any of them. */
export const LINE_TYPES = ['application/x-ndjson', 'application/ndjson', 'application/jsonl'] as const
