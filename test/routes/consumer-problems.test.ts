import t from 'tap'
import { notCreated } from '../../src/routes/consumer-problems.ts'

t.test('a consumer that was deleted between two statements is not taken for too many', (t) => {
  const { code, message } = notCreated({ pathPrefix: '/in' }, 'billing', undefined, false)
  t.equal(code, 'precondition_failed')
  t.equal(message, 'The consumer billing existed, and was deleted just now. Send this again.')
  t.equal(notCreated({ pathPrefix: '' }, 'billing', undefined, true).code, 'too_many_consumers')
  t.end()
})
