/**
 * The read half of the Durable Streams protocol, version 1.0 (https://github.com/durable-streams/durable-streams, PROTOCOL.md), by the
 * tests of its authors. They also create streams and append to them, which an adapter translates for Sluice.
 */
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { startAdapter } from './durable-streams/adapter.ts'
import { EXCLUDED } from './durable-streams/excluded.ts'
import { excludedNames, namesIn } from './durable-streams/names.ts'
import { runSuite } from './durable-streams/run-suite.ts'

// One of the tests sends the preflight of a page on another origin. There are thousands of requests, so none is logged.
const server = await createApp(t, { CORS_ORIGINS: '*', LOG_LEVEL: 'warn' })
const results = await runSuite(t, await startAdapter(t, server))
const excluded = new Set(excludedNames())

t.test('the feed passes every test of the suite that is not excluded', (t) => {
  const included = results.filter(({ name }) => !excluded.has(name))
  t.not(included.length, 0)
  for (const { name, status, messages } of included) t.equal(status, 'passed', name, { messages })
  t.end()
})

t.test('each excluded test is in the suite and is skipped, and each has one reason', (t) => {
  for (const group of EXCLUDED) t.comment([group.reason, ...namesIn(group)].join('\n  '))
  const skipped = results.filter(({ status }) => status === 'skipped').map(({ name }) => name)
  t.same(skipped.sort(), excludedNames().sort())
  t.end()
})
