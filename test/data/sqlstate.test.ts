import t from 'tap'
import { classifyFailure, NotConnectedError } from '../../src/data/sqlstate.ts'
import { sqlError } from '../helpers/memory-store.ts'

const AWAY_UNWRITTEN = { kind: 'transient', written: 'no', away: true }
const AWAY_UNKNOWN = { kind: 'transient', written: 'unknown', away: true }

t.test('no connection: nothing was sent', async (t) => {
  t.same(classifyFailure(new NotConnectedError('no connection to PostgreSQL')), AWAY_UNWRITTEN)
})

t.test('a server that lacks something and says so has rolled back', async (t) => {
  for (const code of ['53100', '53200', '53300']) t.same(classifyFailure(sqlError(code)), AWAY_UNWRITTEN, code)
})

t.test('a server that ends of it may have committed: with a full disk it ends amid a commit', async (t) => {
  for (const severity of ['FATAL', 'PANIC']) {
    // 58030: an error of the disk; XX000: anything.
    for (const code of ['53100', '58030', 'XX000']) {
      t.same(classifyFailure(sqlError(code, severity)), AWAY_UNKNOWN, `${severity} ${code}`)
    }
  }
})

t.test('a server that speaks another language is not taken at a word we do not know', async (t) => {
  t.same(classifyFailure(sqlError('53100', 'PANIK')), AWAY_UNKNOWN)
  t.same(classifyFailure(sqlError('23514', 'FEHLER')), { kind: 'row' })
})

t.test('a connection that broke may have committed, whoever says so', async (t) => {
  for (const code of ['08006', '57P01', '57P02', '57P03', '25P03', 'ECONNRESET', 'ETIMEDOUT', 'EPIPE']) {
    t.same(classifyFailure(Object.assign(new Error(code), { code })), AWAY_UNKNOWN, code)
  }
  t.same(classifyFailure(new Error('Connection terminated unexpectedly')), AWAY_UNKNOWN)
})

t.test('a primary that became a standby is away', async (t) => {
  t.same(classifyFailure(sqlError('25006')), AWAY_UNKNOWN)
})

t.test('contention is no outage', async (t) => {
  for (const code of ['40001', '40P01', '55P03']) {
    t.same(classifyFailure(sqlError(code)), { kind: 'transient', written: 'no', away: false }, code)
  }
})

t.test('what is wrong with values, or with us, is not tried again', async (t) => {
  for (const code of ['22P02', '23505', '54000']) t.same(classifyFailure(sqlError(code)), { kind: 'row' }, code)
  for (const error of [sqlError('42501'), sqlError('XX000'), new TypeError('x'), undefined, null]) {
    t.same(classifyFailure(error), { kind: 'defect' })
  }
})
