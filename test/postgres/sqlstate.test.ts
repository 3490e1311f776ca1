import t from 'tap'
import { AfterCommitError, classifyFailure, NotConnectedError, sqlstateOf } from '../../src/postgres/sqlstate.ts'
import { UnconfirmedError } from '../../src/postgres/unconfirmed.ts'
import { sqlError } from '../helpers/memory-store.ts'

const UNAVAILABLE_NOT_WRITTEN = { kind: 'transient', written: 'no', unavailable: true }
const UNAVAILABLE_UNKNOWN = { kind: 'transient', written: 'unknown', unavailable: true }

t.test('without a connection, nothing was written', async (t) => {
  t.same(classifyFailure(new NotConnectedError('no connection to PostgreSQL')), UNAVAILABLE_NOT_WRITTEN)
})

t.test('an ERROR for a resource that ran out means that nothing was written', async (t) => {
  for (const code of ['53100', '53200', '53300']) t.same(classifyFailure(sqlError(code)), UNAVAILABLE_NOT_WRITTEN, code)
})

// If the disk is full during a commit, the server ends.
t.test('after an error that ends the session or the server, the outcome is unknown', async (t) => {
  for (const severity of ['FATAL', 'PANIC']) {
    // 58030: a disk error. XX000: an internal error of any kind.
    for (const code of ['53100', '58030', 'XX000']) {
      t.same(classifyFailure(sqlError(code, severity)), UNAVAILABLE_UNKNOWN, `${severity} ${code}`)
    }
  }
})

t.test('an unknown severity, as from a server with another language, proves no rollback', async (t) => {
  t.same(classifyFailure(sqlError('53100', 'PANIK')), UNAVAILABLE_UNKNOWN)
  t.same(classifyFailure(sqlError('23514', 'FEHLER')), { kind: 'row', written: 'unknown', unavailable: false })
})

t.test('after a broken connection, the outcome is unknown', async (t) => {
  for (const code of ['08006', '57P01', '57P02', '57P03', '25P03', '25P04', 'ECONNRESET', 'ETIMEDOUT', 'EPIPE']) {
    t.same(classifyFailure(Object.assign(new Error(code), { code })), UNAVAILABLE_UNKNOWN, code)
  }
  t.same(classifyFailure(new Error('Connection terminated unexpectedly')), UNAVAILABLE_UNKNOWN)
  // An error of the operating system, as Node.js throws it. It has a code that src/postgres/sqlstate.ts does not list.
  const down = Object.assign(new Error('read ENETDOWN'), { code: 'ENETDOWN', syscall: 'read', errno: -100 })
  t.same(classifyFailure(down), UNAVAILABLE_UNKNOWN)
})

t.test('a primary that has become a standby is unavailable', async (t) => {
  t.same(classifyFailure(sqlError('25006')), UNAVAILABLE_UNKNOWN)
})

t.test('contention and a cancelled statement are not an outage', async (t) => {
  for (const code of ['40001', '40P01', '55P03', '57014']) {
    t.same(classifyFailure(sqlError(code)), { kind: 'transient', written: 'no', unavailable: false }, code)
  }
})

t.test('an invalid value is a failure of the row; a missing privilege or a bug is a defect', async (t) => {
  const rolledBack = { written: 'no', unavailable: false }
  for (const code of ['22P02', '23505', '54000'])
    t.same(classifyFailure(sqlError(code)), { kind: 'row', ...rolledBack }, code)
  for (const code of ['42501', 'XX000'])
    t.same(classifyFailure(sqlError(code)), { kind: 'defect', ...rolledBack }, code)
  for (const error of [new TypeError('x'), undefined, null]) {
    t.same(
      classifyFailure(error),
      { kind: 'defect', written: 'unknown', unavailable: false },
      'nothing proves a rollback',
    )
  }
})

t.test('a failure after a commit keeps its kind and its code, but its outcome is unknown', async (t) => {
  for (const cause of [sqlError('57014'), sqlError('55P03'), sqlError('42501'), new NotConnectedError('gone')]) {
    const error = new AfterCommitError(cause)
    t.same(classifyFailure(error), { ...classifyFailure(cause), written: 'unknown' })
    t.equal(sqlstateOf(error), sqlstateOf(cause))
  }
})

t.test('an error of a value after a commit is a defect, because the rows may be stored', async (t) => {
  for (const code of ['22P02', '23514', '54000']) {
    const failure = classifyFailure(new AfterCommitError(sqlError(code)))
    t.same(failure, { kind: 'defect', written: 'unknown', unavailable: false }, code)
  }
})

t.test('a commit that no standby has confirmed is transient, and its outcome is unknown', async (t) => {
  t.same(classifyFailure(new UnconfirmedError()), { kind: 'transient', written: 'unknown', unavailable: false })
})
