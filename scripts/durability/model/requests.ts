import { makeBad } from './bad-records.ts'
import { BINARY_VARIANTS, type Content, contentOf, digestOf, VARIANTS } from './contents.ts'
import { type Attempt, DELETABLE, type Exchange, identityOf, MADE } from './history.ts'
import { ENCODINGS, MEDIA_TYPES, type Plan } from './plan.ts'
import type { Random } from './random.ts'
import { writeBinary, writeJson } from './write-record.ts'

export interface Request {
  plan: Plan
  exchange: Exchange
  headers: Record<string, string>
  /** The pieces of the body, sent one after the other. */
  pieces: Buffer[]
}

interface RequestOptions {
  number: number
  plan: Plan
  /** Every record has a new identity. */
  fresh: boolean
}

/** Sources with few identities, so that requests compete for them. */
const SOURCES = ['model/kept/a', 'model/kept/b', `${DELETABLE}a`]
const IDS = 40

/** Each record of this source is in one strict request only, so all of that request's records are stored, or none. */
export const OWN = 'model/kept/own'

/** Chooses the records of a request and builds its body. */
export function makeRequest(random: Random, { number, plan, fresh }: RequestOptions): Request {
  const exchange = newExchange(number, plan)
  const taken = new Set<string>()
  const records = Array.from({ length: plan.records }, (_, index) => {
    if (plan.format !== 'binary' && random.chance(plan.badShare)) return addBad(index)
    return addGood(index)
  })
  const { headers, body } = writeBody(plan, records)
  const bytes = plan.encoding === undefined ? body : (ENCODINGS[plan.encoding]?.(body) as Buffer)
  const length: Record<string, string> = random.chance(0.5)
    ? { 'content-length': String(bytes.length) }
    : { 'transfer-encoding': 'chunked' }
  return { plan, exchange, headers: { ...headers, ...length }, pieces: cut(random, bytes, plan.pieces) }

  function addGood(index: number): Written {
    const { source, id } = chooseIdentity(index)
    const identity = identityOf(source, id)
    const variants = fresh ? [0, 1, 5] : plan.format === 'binary' ? BINARY_VARIANTS : ALL_VARIANTS
    const content = contentOf(identity, random.pick(variants), random.chance(0.2) ? 1 : 0)
    const { traceparent } = plan
    // The server adds it to the record, but does not compare it.
    const extensions = traceparent === undefined ? content.extensions : { ...content.extensions, traceparent }
    const digest = digestOf({ ...content, extensions }, content.time?.utc)
    add({ index, identity, source, id, key: content.key, digest, bad: undefined })
    const sentId = id === derivedId(plan, index) ? undefined : id
    return { text: writeJson(random, content, source, sentId, plan.isEvent), content, source, id: id as string }
  }

  function addBad(index: number): Written {
    const [source, id] = ['model/bad', `${number}.${index}`]
    const own = `"specversion":"1.0","source":"${source}","id":"${id}"`
    const bad = makeBad(random, own, plan.shape)
    add({ index, identity: identityOf(source, id), source, id, key: 'bad', digest: '', bad })
    return { text: bad.text, source, id }
  }

  function add(attempt: Omit<Attempt, 'exchange' | 'claim' | 'cursor'>): void {
    exchange.attempts.push({ ...attempt, exchange, claim: 'unknown', cursor: undefined })
  }

  function chooseIdentity(index: number): { source: string; id: string | undefined } {
    const derived = derivedId(plan, index)
    if (fresh) return { source: 'model/kept/fresh', id: `${number}.${index}` }
    if (plan.format === 'object' && derived === undefined && random.chance(0.1))
      return { source: `${MADE}${number}`, id: undefined }
    for (;;) {
      const own = plan.strict && plan.shape === 'array' && random.chance(0.5)
      const source = own ? OWN : random.pick(SOURCES)
      const id = own
        ? `${number}.${index}`
        : derived !== undefined && random.chance(0.7)
          ? derived
          : `id ${random.int(1, IDS)}/ä`
      // A strict request that contains an identity twice could conflict with itself.
      if (plan.strict && taken.has(`${source} ${id}`)) continue
      taken.add(`${source} ${id}`)
      return { source, id }
    }
  }
}

interface Written {
  text: string
  source: string
  id: string
  content?: Content
}

const ALL_VARIANTS = Array.from({ length: VARIANTS }, (_, variant) => variant)

function newExchange(number: number, plan: Plan): Exchange {
  const { format, encoding, strict, minimal, idempotencyKey, pieces, records } = plan
  const what = [`${records} × ${format}`, encoding, strict && 'strict', minimal && 'minimal', idempotencyKey]
    .concat(pieces > 1 ? `${pieces} pieces` : [])
    .filter(Boolean)
    .join(', ')
  const counted = { createdLines: undefined, storedLines: undefined }
  return { number, what, strict, port: 0, begin: 0, end: 0, response: '', ...counted, attempts: [] }
}

/** The id that the server derives from the Idempotency-Key for the record with this index. */
function derivedId({ idempotencyKey, shape }: Plan, index: number): string | undefined {
  if (idempotencyKey === undefined) return undefined
  return shape === 'alone' ? idempotencyKey : `${idempotencyKey}.${index}`
}

function writeBody(plan: Plan, records: Written[]): { headers: Record<string, string>; body: Buffer } {
  const preferences = [...(plan.strict ? ['handling=strict'] : []), ...(plan.minimal ? ['return=minimal'] : [])]
  const headers = {
    'content-type': MEDIA_TYPES[plan.format],
    ...(plan.encoding === undefined ? {} : { 'content-encoding': plan.encoding }),
    ...(preferences.length === 0 ? {} : { prefer: preferences.join(', ') }),
    ...(plan.idempotencyKey === undefined ? {} : { 'idempotency-key': `"${plan.idempotencyKey}"` }),
    ...(plan.traceparent === undefined ? {} : { traceparent: plan.traceparent }),
  }
  const texts = records.map(({ text }) => text)
  if (plan.format === 'binary') {
    const { content, source, id } = records[0] as Required<Written>
    const binary = writeBinary(content, source, id)
    return { headers: { ...headers, ...binary.headers }, body: binary.body }
  }
  if (plan.shape === 'line') return { headers, body: Buffer.from(texts.map((text) => `${text}\n`).join('')) }
  return { headers, body: Buffer.from(plan.shape === 'alone' ? (texts[0] as string) : `[${texts.join()}]`) }
}

/** Cuts a body at random byte offsets, possibly in the middle of a character. */
function cut(random: Random, bytes: Buffer, pieces: number): Buffer[] {
  const offsets = Array.from({ length: pieces - 1 }, () => random.int(0, bytes.length)).sort(
    (one, other) => one - other,
  )
  return [...offsets, bytes.length].map((end, index) => bytes.subarray(offsets[index - 1] ?? 0, end))
}
