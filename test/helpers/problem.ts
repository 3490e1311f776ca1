import type { Test } from 'tap'
import { PROBLEMS, type ProblemCode } from '../../src/lib/problems.ts'
import type { Answer } from './app.ts'

/** Asserts that an answer is a whole problem document with this code: its status, what a caller acts on, its request. */
export function isProblem(
  t: Test,
  answer: Pick<Answer, 'status' | 'headers' | 'json'>,
  code: ProblemCode,
  { name = code as string, outcome = 'not_written', errors = undefined as object[] | undefined } = {},
): void {
  const { status, title, retryable } = PROBLEMS[code]
  t.equal(answer.status, status, `${name}: ${status}`)
  t.match(answer.headers['content-type'], /^application\/problem\+json(; charset=utf-8)?$/, `${name}: media type`)
  const problem = answer.json
  t.match(problem, { type: `urn:sluice:problem:${code}`, title, status, code, retryable, outcome }, `${name}: document`)
  t.match(problem.detail, /\S.*\.$/s, `${name}: detail is a sentence`)
  t.match(problem.instance, /^\//, `${name}: instance`)
  t.equal(problem.requestId, answer.headers['x-request-id'], `${name}: requestId`)
  if (errors !== undefined) {
    t.equal(problem.errors?.length, errors.length, `${name}: as many errors`)
    t.match(problem.errors, errors, `${name}: errors`)
    for (const error of problem.errors ?? []) t.match(error.detail, /\S/, `${name}: error has a detail`)
  }
}
