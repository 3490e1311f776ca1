import t from 'tap'
import { withSetting } from '../../scripts/durability/messages.ts'
import { setUpStatement } from '../../src/postgres/session.ts'

// If this changed nothing, the faults with small timeouts would have no effect.
t.test('a setting of a session is replaced in the statement that sets it', async (t) => {
  const toQuery = (sql: string) => {
    const message = Buffer.from(`Q1234${sql}\0`, 'latin1')
    message.writeUInt32BE(message.length - 1, 1)
    return message
  }
  const statement = setUpStatement(0, 'byIdentity', 77)
  for (const name of ['statement_timeout', 'lock_timeout']) {
    const expected = statement.replace(`('${name}', '0'`, `('${name}', '25ms'`)
    t.not(expected, statement)
    t.same(withSetting(toQuery(statement), name, '25ms'), toQuery(expected))
  }
  t.same(withSetting(toQuery('SELECT 1'), 'lock_timeout', '25ms'), toQuery('SELECT 1'))
})
