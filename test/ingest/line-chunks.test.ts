import t from 'tap'
import { LineChunks } from '../../src/ingest/line-chunks.ts'
import { LineReport } from '../../src/ingest/line-report.ts'
import { RecordTotals } from '../../src/ingest/record-totals.ts'
import type { Rows } from '../../src/postgres/row.ts'
import { Problem } from '../../src/problems.ts'
import type { Writer } from '../../src/writer/writer.ts'
import { makeRow } from '../helpers/rows.ts'

// A chunk can run out of time while a statement with its rows is still being sent. The memory of these rows was reused by the
// next stream, so the rows of that stream were stored under two identities or not at all. It happened only on a busy machine.
t.test('the memory of a failed chunk is not reused by other streams', async (t) => {
  const sent: Rows[] = []
  const settle: ((error?: unknown) => void)[] = []
  const writer = {
    submit({ rows }: { rows: Rows }, done: (error: unknown, outcomes: unknown[]) => void) {
      sent.push(rows)
      settle.push((error) =>
        done(
          error,
          [...rows].map(() => ({ status: 'created', position: { epoch: 1, xid: '1', n: 0 } })),
        ),
      )
    },
  } as unknown as Writer
  const send = async (name: string) => {
    const request = { key: { id: 'key' }, stop: new AbortController().signal }
    const chunks = new LineChunks(writer, new LineReport(new RecordTotals()), request)
    for (let line = 1; line <= 10; line++) chunks.add(makeRow({ id: `${name}${line}`, data: `"${name}"` }), line, 50)
    await chunks.send()
  }
  const idsOf = (rows: Rows | undefined) => [...(rows ?? [])].map(({ id }) => id)
  const expected = (name: string) => Array.from({ length: 10 }, (_, n) => `${name}${n + 1}`)

  await send('failed')
  settle[0]?.(new Problem('database_unavailable', 'The database is unavailable.'))
  for (let stream = 1; stream <= 5; stream++) await send(`other${stream}`)
  t.same(idsOf(sent[0]), expected('failed'), 'the rows of the failed chunk are unchanged')

  // The memory of a stored chunk is reused, so the check above does not pass by luck.
  settle[1]?.(undefined)
  await send('other9')
  t.same(idsOf(sent[1]), expected('other9'))
})
