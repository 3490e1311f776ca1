import type { ProblemCode } from '../../../src/problems.ts'

/** What a person sends, the code and the pointer of the refusal, and what its detail tells them to do. */
export type Case = [
  name: string,
  body: string | Buffer,
  headers: Record<string, string>,
  ProblemCode,
  string | undefined,
  RegExp,
]

export const RECORD = '{"source":"shop","type":"order.placed","data":{"total":12.5}}'
export const LINES = { 'content-type': 'application/x-ndjson' }
export const EVENT = { 'content-type': 'application/cloudevents+json' }
export const record = (members: string) => `{"source":"s","type":"t",${members}}`
