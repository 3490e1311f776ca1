import t from 'tap'
import { describeRecord } from '../../src/client/record-line.ts'
import { feedLine } from '../helpers/tail.ts'

const START = '2026-01-31T12:00:00Z  shop  t  1  '
const lineOf = (data: string, columns = 80) => {
  const line = describeRecord(feedLine(1, data), columns)
  t.ok(line.startsWith(START), line)
  return line.slice(START.length)
}

t.test('a line has the attributes that there are, and the payload without white space between its values', (t) => {
  const attributes = '"id":"1","source":"s","time":"T","type":"t","subject":"\\u001b[2J\\u00fc"'
  t.equal(describeRecord(`{${attributes},"data_base64":"AAH/"}`, 80), 'T  s  t  1  \\u001b[2Jü  "AAH/"')
  t.equal(describeRecord(`{${attributes}}`, 80), 'T  s  t  1  \\u001b[2Jü')
  t.equal(
    lineOf('{ "a  b" : [ 1.50,\t"\\" , " ], "c":"\u009b31m\u202e"}'),
    '{"a  b":[1.50,"\\" , "],"c":"\\u009b31m\\u202e"}',
  )
  t.end()
})

t.test('a payload is truncated to the width of the terminal, but not to less than 40 characters', (t) => {
  const long = JSON.stringify('x'.repeat(9_000))
  t.equal(lineOf(long, 100).length + START.length, 100)
  t.equal(lineOf(long, 20).length, 40)
  t.match(lineOf(long, 20), /^"x{38}…$/)
  t.equal(lineOf(`"${'x'.repeat(38)}"`, 20), `"${'x'.repeat(38)}"`, 'one that fits is not truncated')
  t.match(lineOf(`"${'x'.repeat(37)}😀😀"`, 20), /^"x{37}…$/, 'no half of a character')
  t.equal(lineOf(`[1,${' '.repeat(9_000)}2]`), '[1,…', 'what was not looked at is not forgotten')
  t.end()
})
