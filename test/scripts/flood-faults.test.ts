import t from 'tap'
import type { Latencies } from '../../scripts/bench/floods/bystander.ts'
import { findFaults } from '../../scripts/bench/floods/faults.ts'

const QUICK: Latencies = { requests: 100, failures: 0, p50_ms: 5, p99_ms: 999, worst_ms: 5_000 }
const CALM = { peak: 511 * 2 ** 20, end: undefined, attacks: 30, post: QUICK, batch: QUICK, get: QUICK }

const faultsOf = (difference: Partial<Parameters<typeof findFaults>[0]>) => findFaults({ ...CALM, ...difference }, 60)

t.test('a flood passes if the memory, the failures and the latencies are below their bounds', async (t) => {
  t.same(faultsOf({}), [])
  t.same(faultsOf({ post: { ...QUICK, failures: 1, failure: '503' } }), [])
})

t.test('a flood with fewer requests than half of its connections is too weak', async (t) => {
  t.same(faultsOf({ attacks: 29 }), ['the flood was too weak: 29 requests on 60 connections'])
  t.same(faultsOf({ attacks: 0 }), ['the flood was too weak: 0 requests on 60 connections'])
})

t.test('each kind of request of the other key must be fast and must succeed', async (t) => {
  for (const [name, kind] of Object.entries({ post: 'POST', batch: 'batch', get: 'GET' })) {
    t.same(faultsOf({ [name]: { ...QUICK, p99_ms: 1_000 } }), [
      `p99 of the requests (${kind}) of another key was 1000 ms`,
    ])
    t.same(faultsOf({ [name]: { ...QUICK, failures: 2, failure: '503' } }), [
      `2 of 100 requests (${kind}) of another key failed (503)`,
    ])
    t.same(faultsOf({ [name]: { requests: 100, failures: 100, failure: 'ECONNRESET' } }), [
      `100 of 100 requests (${kind}) of another key failed (ECONNRESET)`,
    ])
  }
})

t.test('a server that uses 512 MiB or ends fails the flood', async (t) => {
  t.same(faultsOf({ peak: 512 * 2 ** 20 }), ['the server used 512 MiB'])
  t.same(faultsOf({ end: 'SIGKILL' }), ['the server ended (SIGKILL)'])
  t.same(faultsOf({ end: 'SIGABRT' }), ['the server ended (SIGABRT, which V8 raises when its heap is full)'])
})
