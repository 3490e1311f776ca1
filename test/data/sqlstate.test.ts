import t from 'tap'
import { AfterCommitError, classifyFailure, NotConnectedError, sqlstateOf } from '../../src/data/sqlstate.ts'
import { UnconfirmedError } from '../../src/data/unconfirmed.ts'
import { sqlError } from '../helpers/memory-store.ts'

const AWAY_UNWRITTEN = { kind: 'transient', written: 'no', unavailable: true }
const AWAY_UNKNOWN = { kind: 'transient', written: 'unknown', unavailable: true }

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
  t.same(classifyFailure(sqlError('23514', 'FEHLER')), { kind: 'row', written: 'unknown', unavailable: false })
})

t.test('a connection that broke may have committed, whoever says so', async (t) => {
  for (const code of ['08006', '57P01', '57P02', '57P03', '25P03', '25P04', 'ECONNRESET', 'ETIMEDOUT', 'EPIPE']) {
    t.same(classifyFailure(Object.assign(new Error(code), { code })), AWAY_UNKNOWN, code)
  }
  t.same(classifyFailure(new Error('Connection terminated unexpectedly')), AWAY_UNKNOWN)
  // As Node.js has it of the operating system: there are more of them than anybody lists.
  const down = Object.assign(new Error('read ENETDOWN'), { code: 'ENETDOWN', syscall: 'read', errno: -100 })
  t.same(classifyFailure(down), AWAY_UNKNOWN)
})

t.test('a primary that became a standby is away', async (t) => {
  t.same(classifyFailure(sqlError('25006')), AWAY_UNKNOWN)
})

t.test('contention is no outage, and neither is a statement that somebody cancelled', async (t) => {
  for (const code of ['40001', '40P01', '55P03', '57014']) {
    t.same(classifyFailure(sqlError(code)), { kind: 'transient', written: 'no', unavailable: false }, code)
  }
})

t.test('what is wrong with values, or with us, is not tried again', async (t) => {
  const rolledBack = { written: 'no', unavailable: false }
  for (const code of ['22P02', '23505', '54000'])
    t.same(classifyFailure(sqlError(code)), { kind: 'row', ...rolledBack }, code)
  for (const code of ['42501', 'XX000'])
    t.same(classifyFailure(sqlError(code)), { kind: 'defect', ...rolledBack }, code)
  for (const error of [new TypeError('x'), undefined, null]) {
    t.same(
      classifyFailure(error),
      { kind: 'defect', written: 'unknown', unavailable: false },
      'nobody said that it was undone',
    )
  }
})

t.test('what fails after a commit is what it is, but never unwritten', async (t) => {
  for (const cause of [sqlError('57014'), sqlError('55P03'), sqlError('42501'), new NotConnectedError('gone')]) {
    const error = new AfterCommitError(cause)
    t.same(classifyFailure(error), { ...classifyFailure(cause), written: 'unknown' })
    t.equal(sqlstateOf(error), sqlstateOf(cause))
  }
})

t.test('no row is at fault for what fails after a commit: it may be stored', async (t) => {
  for (const code of ['22P02', '23514', '54000']) {
    const failure = classifyFailure(new AfterCommitError(sqlError(code)))
    t.same(failure, { kind: 'defect', written: 'unknown', unavailable: false }, code)
  }
})

t.test('a commit that no standby confirmed is tried again, and may be written', async (t) => {
  t.same(classifyFailure(new UnconfirmedError()), { kind: 'transient', written: 'unknown', unavailable: false })
})
