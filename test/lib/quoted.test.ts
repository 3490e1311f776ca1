import t from 'tap'
import { characterAt, characterName, quoted } from '../../src/lib/quoted.ts'

t.test('a quoted text is one short line without anything that a terminal interprets', (t) => {
  for (const [text, expected] of [
    ['caf\u00e9', '"caf\u00e9"'],
    ['a"b\n', '"a\\"b\\n"'],
    ['\u001b[2J\u007f\u0085', '"\\u001b[2J\\u007f\\u0085"'],
    ['\u202eevil\u2028\u200b', '"\\u202eevil\\u2028\\u200b"'],
    ['a b\u00a0\u2003', '"a b\\u00a0\\u2003"'],
    ['\ud800', '"\\ud800"'],
    ['\u{e0041}', '"\\udb40\\udc41"'],
    ['x'.repeat(1000), `"${'x'.repeat(59)}\u2026"`],
  ] as const)
    t.equal(quoted(text), expected)
  t.end()
})

t.test('a character is named by what can be seen, or by its number', (t) => {
  for (const [character, expected] of [
    [' ', 'a space'],
    ['\n', 'a line break'],
    ['\0', 'U+0000'],
    ['\u00a0', 'U+00A0'],
    ['\u00e9', '"\u00e9" (U+00E9)'],
    ['\u{1f980}', '"\u{1f980}" (U+1F980)'],
    ['"', "'\"' (U+0022)"],
  ] as const)
    t.equal(characterName(character), expected)
  t.end()
})

t.test('the number of a character counts characters, not UTF-16 units', (t) => {
  for (const [text, index, expected] of [
    [' ', 0, 'Character 1 is a space'],
    ['\u{1f980}\u00e9\n', 3, 'Character 3 is a line break'],
    ['a\u{1f980}b', 1, 'Character 2 is "\u{1f980}" (U+1F980)'],
    ['\ud83ea\udd80', 2, 'Character 3 is U+DD80'],
  ] as const)
    t.equal(characterAt(text, index), expected)
  t.end()
})
