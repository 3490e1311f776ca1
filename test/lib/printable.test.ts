import t from 'tap'
import { printable, quoted } from '../../src/lib/printable.ts'

t.test('what a terminal would interpret is escaped, and everything else stays', (t) => {
  for (const [text, shown] of [
    ['\x1b[2J', '\\u001b[2J'],
    ['a\nb\r\tc\0', 'a\\nb\\r\\tc\\u0000'],
    ['\x7f\x9b31m', '\\u007f\\u009b31m'],
    ['\u202egpj.exe\u2066', '\\u202egpj.exe\\u2066'],
    ['\ufeffid\u2028', '\\ufeffid\\u2028'],
    ['Zoë 山田 👩‍💻 a\\b "c"', 'Zoë 山田 👩‍💻 a\\b "c"'],
  ] as const)
    t.equal(printable(text), shown)
  t.equal(quoted('a"\x9b\n'), '"a\\"\\u009b\\n"')
  t.end()
})
