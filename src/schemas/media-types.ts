/** One record per line. Responses use the first; senders may use any of them. */
export const LINE_TYPES = ['application/x-ndjson', 'application/ndjson', 'application/jsonl'] as const
