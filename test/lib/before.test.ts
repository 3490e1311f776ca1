import t from 'tap'
import { before } from '../../src/lib/before.ts'

t.test('the part before the first separator', async (t) => {
  t.equal(before('application/json; charset=utf-8; a=b', ';'), 'application/json')
  t.equal(before(';', ';'), '')
})

t.test('a text without a separator stays whole', async (t) => {
  t.equal(before('application/json', ';'), 'application/json')
  t.equal(before('', ';'), '')
})
