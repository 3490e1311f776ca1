import { TypeCompiler } from '@sinclair/typebox/compiler'
import { type ValueError, ValueErrorType } from '@sinclair/typebox/errors'
import type { Selection } from '../data/deletable.ts'
import { jsonFault, walkAtOnce } from '../lib/json/parse.ts'
import { nearest } from '../lib/nearest.ts'
import { nearSizes, parseSize } from '../lib/size.ts'
import { FORMATS, type TextFormat } from '../schemas/formats.ts'
import { PoliciesSchema, type PolicyInput, PolicySchema } from '../schemas/policies.ts'
import { BUCKET_SECONDS } from '../schemas/stats.ts'

/** A retention policy: which records it applies to, and its limits, of which at least one is set; or `rollups` and no other limit. */
export interface Policy {
  /** As in the file. */
  written: PolicyInput
  selection: Selection
  maxAgeSeconds: number | undefined
  maxCount: number | undefined
  maxBytes: number | undefined
  /** Whether records that a consumer has not read stay. */
  keepForConsumers: boolean
  rollups: OldRollups | undefined
}

/** The rollups of buckets of these lengths, in seconds, that began longer ago than this. */
export interface OldRollups {
  lengths: readonly number[]
  maxAgeSeconds: number
}

const check = TypeCompiler.Compile(PoliciesSchema)

/**
 * Reads a file of policies: a JSON array. If it is empty, nothing is deleted. A file of only white space is an empty array.
 * @param name of the file, for messages
 * @throws Error with one line per fault, which begins with the name of the file and the location (JSON Pointer)
 */
export function parsePolicies(text: string, name: string): Policy[] {
  if (text.trim() === '') return []
  const value = parseJson(text, name)
  const faults = check.Check(value) ? value.flatMap(findContradictions) : describe([...check.Errors(value)])
  if (faults.length > 0) throw new Error(faults.map((fault) => `${name}: ${fault}`).join('\n'))
  return (value as PolicyInput[]).map(toPolicy)
}

function parseJson(text: string, name: string): unknown {
  const fault = jsonFault(walkAtOnce(text), text, { file: name })
  if (fault !== undefined) throw new Error(fault.detail.replace(/\.$/, ''))
  return JSON.parse(text)
}

/** Faults that the schema cannot express. */
function findContradictions(policy: PolicyInput, index: number): string[] {
  const { type, typePrefix, source, sourcePrefix, extensions, maxAge, maxCount, maxBytes } = policy
  const faults: string[] = []
  if (policy.rollups !== undefined && (maxAge === undefined || Object.keys(policy).length > 2))
    return [`/${index} has rollups: it needs maxAge, and may have nothing else`]
  if (maxAge === undefined && maxCount === undefined && maxBytes === undefined)
    faults.push(`/${index} has no limit: it needs maxAge, maxCount or maxBytes`)
  // Probably a mistake, and nothing could undo it.
  if (maxCount === 0 && [type, typePrefix, source, sourcePrefix, extensions].every((one) => one === undefined))
    faults.push(`/${index} would delete every record: with maxCount 0, select records, for example by source`)
  if (type !== undefined && typePrefix !== undefined)
    faults.push(`/${index} has both type and typePrefix: use only one`)
  if (source !== undefined && sourcePrefix !== undefined)
    faults.push(`/${index} has both source and sourcePrefix: use only one`)
  if (maxAge !== undefined && toSeconds(maxAge) > MAX_SECONDS)
    faults.push(`/${index}/maxAge is ${JSON.stringify(maxAge)}, but must be at most 36500d`)
  return faults
}

const FIELDS = Object.keys(PolicySchema.properties)
const ALIASES = { age: 'maxAge', days: 'maxAge', ttl: 'maxAge', count: 'maxCount', bytes: 'maxBytes', size: 'maxBytes' }

/** Which field was probably meant, in parentheses. */
function question(path: string): string {
  const meant = nearest(path.slice(path.lastIndexOf('/') + 1), FIELDS, ALIASES)
  return meant === undefined ? '' : ` (did you mean ${meant}?)`
}

/** The first error at each location. The others follow from it. */
function describe(errors: ValueError[]): string[] {
  const first = new Map(errors.toReversed().map((error) => [error.path, error]))
  return [...first.values()].toReversed().map(({ type, path, value, schema }) => {
    const here = path === '' ? 'the content' : path
    if (type === ValueErrorType.ObjectAdditionalProperties && schema.title === undefined)
      return `${here} is unknown: a policy has ${FIELDS.join(', ')}${question(path)}`
    const allowed =
      schema.title ?? FORMATS[schema.format as TextFormat]?.says ?? (path === '' ? 'an array of policies' : 'an object')
    const sizes = path.endsWith('/maxBytes') ? nearSizes(String(value)) : []
    const instead = sizes.length === 0 ? '' : `: use ${sizes.join(' or ')}`
    return `${here} is ${JSON.stringify(value)}, but must be ${allowed}${instead}`
  })
}

function toPolicy(written: PolicyInput): Policy {
  const { type, typePrefix, source, sourcePrefix, extensions, maxAge, maxCount, maxBytes, keepForConsumers } = written
  const { rollups } = written
  const maxAgeSeconds = maxAge === undefined ? undefined : toSeconds(maxAge)
  return {
    written,
    selection: { type, typePrefix, source, sourcePrefix, extensions },
    maxAgeSeconds: rollups === undefined ? maxAgeSeconds : undefined,
    maxCount,
    maxBytes: maxBytes === undefined ? undefined : parseSize(maxBytes),
    keepForConsumers: keepForConsumers ?? false,
    rollups: rollups && { lengths: LENGTHS[rollups], maxAgeSeconds: maxAgeSeconds as number },
  }
}

/** Shorter rollups never stay longer than longer ones: those with the most records are found with the longer ones. */
const LENGTHS = { minute: [BUCKET_SECONDS.minute], hour: [BUCKET_SECONDS.minute, BUCKET_SECONDS.hour] }

/** Months and years are missing because their lengths vary. */
const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 }
type Unit = keyof typeof SECONDS

/** A hundred years. With some thousands of years, now() minus the age would be out of the range of timestamps. */
const MAX_SECONDS = 36_500 * SECONDS.d

const toSeconds = (age: string) => Number(age.slice(0, -1)) * SECONDS[age.at(-1) as Unit]
