import type { Test } from 'tap'
import type { ProblemCode } from '../../src/problems.ts'
import type { TestApp } from './app.ts'
import { isProblem } from './problem.ts'

let count = 0

/** The beginning of a text, for the name of an assertion. TAP allows no line breaks in it. */
export const shown = (text: string): string => text.slice(0, 60).replaceAll(/[^\x20-\x7e]/g, '?')

/** The valid parts of the record's identity, which the response contains if the record is refused. */
function identityOf(record: string): { source?: string; id?: string } {
  const { source, id } = JSON.parse(record)
  const isName = (name: unknown) => typeof name === 'string' && name.length <= 512 && name.isWellFormed()
  return { ...(isName(source) ? { source } : {}), ...(isName(id) ? { id } : {}) }
}

/**
 * Asserts that a record is refused with this code at this location: alone, and between two other records, which are stored.
 * @param record JSON text
 */
export async function isRefused(
  t: Test,
  { post, get }: TestApp,
  record: string,
  code: ProblemCode,
  pointer: string,
  name = shown(record),
): Promise<void> {
  const identity = identityOf(record)
  isProblem(t, await post(record), code, { name, errors: [{ index: 0, pointer, ...identity, code }] })

  const [before, after] = [`before${++count}`, `after${count}`]
  const good = (id: string) => JSON.stringify({ source: 'neighbour', type: 't', id })
  const response = await post(`[${good(before)},${record} , ${good(after)}]`)
  t.equal(response.status, 207, `${name}: in a batch`)
  t.match(response.json.counts, { created: 2, rejected: 1 }, `${name}: the other records are stored`)
  const { error, ...result } = response.json.results[1]
  t.same(result, { index: 1, ...identity, status: 'rejected' }, `${name}: result`)
  t.match(error, { pointer, code, detail: /\S/ }, `${name}: error`)
  t.same(Object.keys(error), ['pointer', 'code', 'detail'], `${name}: no other members`)
  for (const id of [before, after]) t.equal((await get(`/v1/records/neighbour/${id}`)).status, 200, `${name}: ${id}`)
}

/** Asserts that a record is stored, and that it is read back with these members. @returns the record as text, as it was read */
export async function isStored(
  t: Test,
  { post, get }: TestApp,
  record: string,
  expected: object,
  name = shown(record),
): Promise<string> {
  const response = await post(record)
  t.equal(response.status, 201, `${name}: stored`)
  const read = await get(String(response.headers.location))
  t.equal(read.status, 200, `${name}: found`)
  t.match(read.json, expected, `${name}: read back equal`)
  return read.text
}
