/** How much is looked at, in bytes or characters. Each line of a stream may be refused, so this costs little. */
const HEAD_BYTES = 1024
const HEAD_LENGTH = 256

const send = (encoding: string) =>
  `Send it with Content-Encoding: ${encoding}; if it has that already, it was compressed twice`
const UNPACK = 'Send its content as JSON'
const AS_BYTES = 'Send bytes as data_base64 in a record, or as a CloudEvent in binary mode'
const TO_UTF8 = 'Send it as UTF-8 (iconv -f UTF-16 -t UTF-8; in PowerShell, Out-File -Encoding utf8)'

const PACKED = 'Unpack it, or compress it with gzip or zstd'
const NO_RECORDS = 'It contains no records'
const SAVE_UTF8 = 'Save it as UTF-8, such as with iconv -f UTF-16 -t UTF-8'

/** The first bytes of formats, in hexadecimal, and what to do: with a body of a request, and with a file of `sluice load`. */
const MAGIC: [start: RegExp, name: string, advice: string, forFile: string][] = [
  [/^1f8b/, 'gzip', send('gzip'), 'Let its name end with .gz, or: zcat FILE | sluice load - …'],
  [/^28b52ffd/, 'zstd', send('zstd'), 'Let its name end with .zst, or: zstdcat FILE | sluice load - …'],
  [/^504b0304/, 'a ZIP archive or an Office document', UNPACK, 'Save a spreadsheet as CSV in UTF-8, or unpack the archive'],
  [/^d0cf11e0a1b11ae1/, 'an old Office document', UNPACK, 'Save a spreadsheet as CSV in UTF-8'],
  [/^25504446/, 'PDF', AS_BYTES, NO_RECORDS],
  [/^89504e47/, 'a PNG image', AS_BYTES, NO_RECORDS],
  [/^ffd8ff/, 'a JPEG image', AS_BYTES, NO_RECORDS],
  [/^47494638/, 'a GIF image', AS_BYTES, NO_RECORDS],
  [/^fd377a585a/, 'xz', PACKED, 'Use: xzcat FILE | sluice load - …'],
  [/^425a683[1-9]/, 'bzip2', PACKED, 'Use: bzcat FILE | sluice load - …'],
  [/^04224d18/, 'lz4', PACKED, 'Use: lz4cat FILE | sluice load - …'],
  [/^4f626a01/, 'Avro', UNPACK, 'Convert it to NDJSON, such as with avro-tools tojson'],
  [/^50415231(?!0[9ad]|[2-7])/, 'Parquet', UNPACK, `Convert it: duckdb -c "COPY (FROM 'FILE') TO 'FILE.csv'"`],
  [/^53514c69746520666f726d61742033/, 'a SQLite database', UNPACK, 'Export a table: sqlite3 -header -csv FILE "SELECT * FROM …" | sluice load - --format csv …'],
  [/^5047444d5001/, 'a dump of PostgreSQL', UNPACK, 'Restore it, and export a table: COPY … TO STDOUT WITH (FORMAT csv, HEADER)'],
  [/^(?:0000feff|fffe0000)/, 'UTF-32', TO_UTF8.replace('UTF-16', 'UTF-32'), SAVE_UTF8.replace('UTF-16', 'UTF-32')],
  [/^(?:fffe|feff)/, 'UTF-16', TO_UTF8, SAVE_UTF8],
  [/^(?:(?:00(?!00)..){2}|(?:(?!00)..00){2})/, 'UTF-16', TO_UTF8, SAVE_UTF8],
  [/^.{514}7573746172/, 'a tar archive', UNPACK, 'Use: tar -xOf FILE | sluice load - …'],
] // biome-ignore format: a table

/** How many bytes of a file are needed to recognise it. */
export const MAGIC_BYTES = 262

interface Look {
  name: string
  advice: string
}

/** What a file is by its first bytes, if it cannot be text in UTF-8, and what to do. */
export function lookOfFile(start: Buffer): Look | undefined {
  const [, name, , advice] = findMagic(start, MAGIC_BYTES) ?? []
  return name === undefined || advice === undefined ? undefined : { name, advice }
}

function findMagic(bytes: Buffer, length: number) {
  const start = bytes.toString('hex', 0, length)
  return MAGIC.find(([magic]) => magic.test(start))
}

/** What the bytes seem to be, by their beginning; undefined if they may be text in UTF-8. */
export function lookOfBytes(bytes: Buffer): Look | undefined {
  // Thousands of lines may be refused, and only tar archives need more.
  const [, name, advice] = findMagic(bytes, 16) ?? []
  if (name !== undefined && advice !== undefined) return { name, advice }
  // RFC 1950, section 2.2: the method deflate, and a checksum of the header.
  const isZlib = bytes.length > 2 && ((bytes[0] as number) & 0x8f) === 8 && bytes.readUInt16BE(0) % 31 === 0
  if (isZlib) return { name: 'zlib (deflate)', advice: send('deflate') }
  return undefined
}

/** Which format bytes that are not UTF-8 seem to have, by their beginning, and what to do; undefined if it is not clear. */
export function formatHint(bytes: Buffer): string | undefined {
  const look = lookOfBytes(bytes)
  return look === undefined ? undefined : sentence(look)
}

/** What to do about bytes without a known beginning that are not UTF-8: text in another encoding, or no text. */
export function encodingHint(bytes: Buffer): string {
  return isText(bytes)
    ? 'It looks like text in another encoding, such as Windows-1252. Convert it to UTF-8 (iconv -f WINDOWS-1252 -t UTF-8)'
    : NO_TEXT
}

/** brotli has no magic number, and trying to inflate it can take seconds. */
const NO_TEXT =
  'It is not text. If it is compressed with brotli, send it with Content-Encoding: br. Convert MessagePack, CBOR or Protobuf to JSON. Send other bytes as data_base64 in a record'

/** Small maps and arrays of MessagePack and CBOR begin with 0x80 to 0xbf, where Windows-1252 has only signs, and may have no control characters. */
const isText = (bytes: Buffer) =>
  ((bytes[0] as number) & 0xc0) !== 0x80 &&
  !bytes.subarray(0, HEAD_BYTES).some((byte) => byte < 0x20 && byte !== 9 && byte !== 10 && byte !== 13)

/** Without the last full stop. */
const sentence = ({ name, advice }: Look) => `It looks like ${name}. ${advice}`

/** Formats that are text, and what to do: with a body of a request, and, if it is common, with a file of `sluice load`. */
const TEXTS: [pattern: RegExp, name: string, advice: string, forFile?: string][] = [
  [
    /^--[^\r\n]{1,70}\r?\ncontent-/i,
    'multipart/form-data',
    'Send the content of the file alone (curl --data-binary @FILE, not -F)',
  ],
  [
    /^<(?:\?xml|!doctype|[\w:-]+[\s/>])/i,
    'XML or HTML',
    'Convert it to JSON',
    'Convert it to JSON, such as with yq -p xml -o json FILE',
  ],
  [/^@[^\s{[]+\s*$/, 'the name of a file', 'curl reads a file only after -d, --data or --data-binary (@FILE)'],
  [/^'/, 'text in single quotes', 'cmd.exe does not remove them: send a file (curl --data-binary @FILE)'],
  [/^%7b|^%5b|^%22/i, 'percent-encoded text', 'Send it without encoding'],
  [/^(?:data|event|id): ?/, 'server-sent events', 'Send only what follows data:'],
  [
    /^(?:\$[({]|`|\$\w+\s*$|%\w+%\s*$)/,
    'a variable or a command that the shell did not replace',
    'A shell replaces them within double quotes, not within single ones',
  ],
  [/^[\w$.]+\(/, 'JSONP or a program', 'Send only the JSON within the parentheses'],
  [/^(?:undefined|null|None|NaN)\s*$/, 'the text of an empty variable', 'Send a record'],
  [/^"\s*\\?[[{]|^"\\"/, 'JSON within a JSON string', 'It was encoded twice: send the text itself'],
  // Words have neither capitals nor digits in the middle.
  [
    /^(?=\S*[a-z])(?=\S*[A-Z])(?=\S*[\d+/=])[A-Za-z\d+/]{16,}={0,2}(?:\s|$)/,
    'base64',
    'Decode it, and send the content itself',
  ],
  [/^[\w.%+~[\]-]+=/, 'a form (application/x-www-form-urlencoded)', 'Send a JSON object'],
  [
    /^[^\n,;\t{}[\]]*([,;\t])(?! )[^\n{}[\]]*(?:\1|\n[^\n]*\1)/,
    'CSV',
    'Convert it to JSON, or store it with: sluice load FILE.csv',
    'Use --format csv or --format tsv',
  ],
  [/^(?:---\s*\n|[\w.-]+:\s)/, 'YAML', 'Convert it to JSON', 'Use: yq -o json FILE | sluice load - --format json …'],
]

/** Which text of a file is not JSON, and what to do; undefined if it is not clear. */
export function textOfFile(start: string): Look | undefined {
  const [, name, , advice] = TEXTS.find(([pattern, , , forFile]) => forFile !== undefined && pattern.test(start)) ?? []
  return name === undefined || advice === undefined ? undefined : { name, advice }
}

/** What a text that is not the expected JSON seems to be, and what to do, as sentences without the final full stop; undefined if it is not clear. */
export function textHint(text: string): string | undefined {
  const head = text.slice(0, HEAD_LENGTH).trimStart()
  const look = lookOfBytes(Buffer.from(head.slice(0, 16)))
  if (look !== undefined) return sentence(look)
  const [, name, advice] = TEXTS.find(([pattern]) => pattern.test(head)) ?? []
  return name !== undefined && advice !== undefined ? sentence({ name, advice }) : undefined
}
