/** What to do instead of sending a media type that is not supported. */
const HINTS: [pattern: RegExp, hint: string][] = [
  [/^$/, "Send the header Content-Type: application/json (curl -H 'Content-Type: application/json')."],
  [
    /x-www-form-urlencoded/,
    "curl -d and HTML forms send it by default. Send JSON with Content-Type: application/json (curl -H 'Content-Type: application/json').",
  ],
  [/^multipart\//, 'Send the content of the file alone, with its own Content-Type (curl --data-binary @FILE, not -F).'],
  [/csv|tab-separated/, 'Convert it to JSON, or store it with: sluice load FILE.csv.'],
  [/xml|html|soap/, 'Convert it to JSON.'],
  [/(?:nd|line|stream|seq).*json|jsonl|json.*(?:line|seq)/, 'For one record per line, use application/x-ndjson.'],
  [/json/, 'For JSON, use application/json.'],
  [/^text\/plain$/, 'JSON needs Content-Type: application/json, and one record per line application/x-ndjson.'],
  [/zip|zstd|compressed/, 'Name the compression in Content-Encoding, and the content in Content-Type.'],
  [/octet-stream/, 'JSON needs Content-Type: application/json.'],
]

/** In characters. The patterns are slow on long text, and no media type is as long. */
const MAX_LENGTH = 100

export const mediaTypeHint = (essence: string): string =>
  HINTS.find(([pattern]) => pattern.test(essence.slice(0, MAX_LENGTH)))?.[1] ?? ''
