import type { Test } from 'tap'
import { PROBLEMS, type ProblemCode } from '../../src/problems.ts'
import type { Answer } from './app.ts'

/** Asserts that a response is a complete problem document with this code. */
export function isProblem(
  t: Test,
  response: Pick<Answer, 'status' | 'headers' | 'json'>,
  code: ProblemCode,
  { name = code as string, outcome = 'not_written', errors = undefined as object[] | undefined } = {},
): void {
  const { status, title, retryable } = PROBLEMS[code]
  t.equal(response.status, status, `${name}: ${status}`)
  t.match(response.headers['content-type'], /^application\/problem\+json(; charset=utf-8)?$/, `${name}: media type`)
  const problem = response.json
  t.match(problem, { type: `urn:sluice:problem:${code}`, title, status, code, retryable, outcome }, `${name}: document`)
  t.match(problem.detail, /\S.*\.$/s, `${name}: detail is a sentence`)
  t.match(problem.instance, /^\//, `${name}: instance`)
  t.equal(problem.requestId, response.headers['x-request-id'], `${name}: requestId`)
  if (errors !== undefined) {
    t.equal(problem.errors?.length, errors.length, `${name}: number of errors`)
    t.match(problem.errors, errors, `${name}: errors`)
    for (const error of problem.errors ?? []) t.match(error.detail, /\S/, `${name}: error has a detail`)
  }
}
