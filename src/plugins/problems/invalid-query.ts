import type { FastifyError } from 'fastify'
import { didYouMean, nearest } from '../../lib/nearest.ts'
import { quoted } from '../../lib/quoted.ts'
import { type Fault, Problem } from '../../problems.ts'

/** An error of Ajv with `verbose`. */
interface ValidationError {
  keyword: string
  instancePath: string
  message?: string
  params: Record<string, unknown>
  /** The value. */
  data?: unknown
  parentSchema?: { type?: string; minimum?: number; maximum?: number; properties?: object }
}

/** What other APIs call these parameters and values. */
const ALIASES: Record<string, string> = {
  from: 'timeFrom',
  since: 'timeFrom',
  start: 'timeFrom',
  after: 'cursor',
  until: 'timeUntil',
  to: 'timeUntil',
  end: 'timeUntil',
  before: 'timeUntil',
  size: 'limit',
  pagesize: 'limit',
  perpage: 'limit',
  maxresults: 'limit',
  page: 'cursor',
  offset: 'cursor',
  next: 'cursor',
  pagetoken: 'cursor',
  sort: 'order',
  sortby: 'order',
  orderby: 'order',
  direction: 'order',
  select: 'fields',
  columns: 'fields',
  prefix: 'sourcePrefix',
  filter: 'jsonpath',
  query: 'jsonpath',
  where: 'jsonpath',
  q: 'jsonpath',
  total: 'count',
  ascending: 'asc',
  oldest: 'asc',
  descending: 'desc',
  newest: 'desc',
}

/** The problem for query parameters that do not match the schema of the route. */
export function invalidQuery({ validation, message }: FastifyError): Problem {
  const allowed = new Map<string, unknown[]>()
  const errors: Fault[] = []
  for (const error of (validation ?? []) as ValidationError[]) {
    const { keyword, instancePath, params } = error
    const name = instancePath.slice(1) || String(params.additionalProperty ?? params.missingProperty ?? '')
    // A parameter with fixed values fails once for each value (`const`), and then once as a whole (`anyOf`).
    if (keyword === 'const') allowed.set(name, [...(allowed.get(name) ?? []), params.allowedValue])
    else errors.push({ pointer: name, code: 'invalid_query', detail: describe(name, error, allowed.get(name) ?? []) })
  }
  return new Problem('invalid_query', errors[0]?.detail ?? message, { errors })
}

function describe(name: string, error: ValidationError, choices: unknown[]): string {
  const { keyword, message, data, parentSchema = {} } = error
  if (keyword === 'additionalProperties') return unknownParameter(name, Object.keys(parentSchema.properties ?? {}))
  if (Array.isArray(data))
    return `${name} occurs ${data.length} times, but may occur only once. Send one of them, or a request for each value.`
  if (data === '') return `${name} is empty. Give it a value, or omit it.`
  if (keyword === 'anyOf') {
    const known = choices.map(String)
    const meant = nearest(String(data), known, ALIASES)
    const instead = meant === undefined ? `It is ${quoted(String(data))}` : `Write ${meant} for ${quoted(String(data))}`
    return `${name} must be one of ${known.join(', ')}. ${instead}.`
  }
  const { type, minimum, maximum } = parentSchema
  if (type === 'integer')
    return `${name} must be a whole number from ${minimum} to ${maximum}. It is ${quoted(String(data))}.`
  if (type === 'number') return `${name} must be a number from ${minimum} to ${maximum}. It is ${quoted(String(data))}.`
  if (type === 'boolean') return `${name} must be true or false. It is ${quoted(String(data))}.`
  return `${name} ${message}.`
}

function unknownParameter(name: string, known: string[]): string {
  const question = didYouMean(name, known, ALIASES)
  const shown = /^[\w.-]{1,60}$/.test(name) ? name : quoted(name)
  return `The parameter ${shown} does not exist.${question} The parameters are ${known.join(', ')}.`
}
