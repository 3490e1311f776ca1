import type { Random } from './random.ts'

/** A record that must be rejected, and the expected reason. */
export interface Bad {
  /** The record as JSON. */
  text: string
  code: string
  pointer: string
  /** Only PostgreSQL rejects it. Sluice finds it by splitting its flush. */
  byDatabase?: true
}

/** A constraint that the model adds to the table rejects records of this type. */
export const GUILTY_TYPE = 'model.guilty'

/** The shape of the body: a single record, an array of records, or one record per line. */
export type Shape = 'alone' | 'array' | 'line'

const MAKERS: ((identity: string) => Bad & { only?: Shape[] })[] = [
  (own) => ({ text: `{${own},"data":1}`, code: 'required', pointer: '/type' }),
  (own) => ({ text: `{${own},"type":"x","data":{"a":"b\\u0000"}}`, code: 'unstorable_string', pointer: '/data/a' }),
  (own) => ({ text: `{${own},"type":"x","data":["\\ud800"]}`, code: 'unstorable_string', pointer: '/data/0' }),
  (own) => ({ text: `{${own},"type":"x","data":1e200000}`, code: 'unstorable_number', pointer: '/data' }),
  (own) => ({ text: `{${own},"type":"x","Bad_Name":1}`, code: 'unknown_field', pointer: '/Bad_Name' }),
  (own) => ({ text: `{${own},"type":"x","time":"2026-02-30T00:00:00Z"}`, code: 'invalid_time', pointer: '/time' }),
  (own) => ({ text: `{${own},"type":"x","type":"y"}`, code: 'repeated_field', pointer: '/type' }),
  (own) => ({ text: `{${own.replace('model/', 'other/')},"type":"x"}`, code: 'source_forbidden', pointer: '/source' }),
  () => ({ text: '42', code: 'wrong_type', pointer: '', only: ['array', 'line'] }),
  (own) => ({ text: `{${own}`, code: 'invalid_json', pointer: '', only: ['line'] }),
  (own) => guilty(own),
  (own) => guilty(own),
]

const guilty = (own: string): Bad => ({
  text: `{${own},"type":"${GUILTY_TYPE}"}`,
  code: 'refused_by_database',
  pointer: '',
  byDatabase: true,
})

/** @param own the members with its identity, which no other record has */
export function makeBad(random: Random, own: string, shape: Shape): Bad {
  for (;;) {
    const { only, ...bad } = random.pick(MAKERS)(own)
    if (only === undefined || only.includes(shape)) return bad
  }
}
