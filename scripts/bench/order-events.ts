/** A typical small record of about 350 bytes. MARK is replaced by the digits of the id that change. */
const RECORD =
  '{"source":"https://shop.example/eu","type":"order.placed","id":"########-7b1d-4c5e-9f20-6d3a8e41b7c9",' +
  '"time":"2026-03-14T09:26:53.589Z","subject":"customers/48213","data":{"order":"EU-2026-184467","currency":"EUR",' +
  '"total":84.97,"lines":[{"sku":"TEA-EG-250","quantity":2,"price":12.50},{"sku":"POT-BLK-1L","quantity":1,' +
  '"price":59.97}],"coupon":null}}'

const MARK = '########'
const HEX = Buffer.from('0123456789abcdef')

/** Ids that this process has used so far. */
let used = 0

/**
 * Builds a request that can be sent many times: `renew` gives each of its records a new id, and returns the number of the first one.
 * It is built only once, because the load generator shares the processor with the server that it measures.
 * @param size records per request; 1 is sent as an object, more as an array
 */
export function buildRequest(port: number, key: string, size: number): { bytes: Buffer; renew(): number } {
  const body = size === 1 ? RECORD : `[${new Array(size).fill(RECORD).join(',')}]`
  const head =
    `POST /v1/records HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAuthorization: Bearer ${key}\r\n` +
    `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n`
  const bytes = Buffer.from(head + body)
  const marks: number[] = []
  for (let at = bytes.indexOf(MARK); at !== -1; at = bytes.indexOf(MARK, at + 1)) marks.push(at)
  return {
    bytes,
    renew: () => {
      const first = used
      for (const at of marks) writeDigits(bytes, at, scatter(used++))
      return first
    },
  }
}

/** Builds lines of NDJSON. `number` gives them the ids `idOf(first)`, `idOf(first + 1)`, and so on. */
export function buildLines(lines: number): { bytes: Buffer; number(first: number): void } {
  const length = RECORD.length + 1
  const bytes = Buffer.alloc(lines * length, `${RECORD}\n`)
  const mark = RECORD.indexOf(MARK)
  return {
    bytes,
    number: (first) => {
      for (let line = 0; line < lines; line++) writeDigits(bytes, line * length + mark, scatter(first + line))
    },
  }
}

/** The values of the record except its id, for which there is `idOf`. `data` is JSON text. */
export function readRecord(): Record<'source' | 'type' | 'subject' | 'time' | 'data', string> {
  return { ...JSON.parse(RECORD), data: RECORD.slice(RECORD.indexOf('"data":') + '"data":'.length, -1) }
}

/** The id that `buildLines` derives from a number. */
export function idOf(number: number): string {
  const digits = scatter(number).toString(16).padStart(MARK.length, '0')
  return (JSON.parse(RECORD).id as string).replace(MARK, digits)
}

/** The number from which an id was derived. @param id at least its first eight digits */
export const numberOf = (id: string): number => Math.imul(Number.parseInt(id.slice(0, MARK.length), 16), INVERSE) >>> 0

const FACTOR = 0x9e3779b1
/** INVERSE * FACTOR is 1 modulo 2^32. */
const INVERSE = 0xe8b2f51

/**
 * Maps each number to another one. Real ids are random; ids in rising order would make inserts into the index of identities
 * unrealistically fast. Multiplication by an odd factor permutes the numbers below 2^32.
 */
const scatter = (number: number) => Math.imul(number, FACTOR) >>> 0

function writeDigits(bytes: Buffer, at: number, id: number): void {
  for (let digit = 0; digit < MARK.length; digit++) {
    bytes[at + digit] = HEX[(id >>> (28 - 4 * digit)) & 15] as number
  }
}
