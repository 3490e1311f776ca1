import t from 'tap'
import { uriFault } from '../../src/ingest/uri-fault.ts'

t.test('the first character that a URI-reference cannot contain is named, and how to write it', async (t) => {
  for (const [text, expected] of [
    ['a b', 'Character 2 is a space: write it as %20.'],
    ['\u{1f980}%zz', 'Character 1 is "\u{1f980}" (U+1F980): write it as %F0%9F%A6%80.'],
    ['%AF%af%zz', 'Character 7 is "%" (U+0025): write it as %25.'],
    // With the flags `iu`, \w also means these two.
    ['caf\u017f', 'Character 4 is "\u017f" (U+017F): write it as %C5%BF.'],
    ['\u212a', 'Character 1 is "\u212a" (U+212A): write it as %E2%84%AA.'],
    ['a\ud800', 'Character 2 is U+D800.'],
    ['a#b#c', 'Character 4 is "#" (U+0023): write it as %23.'],
    ['shop', undefined],
  ] as const)
    t.equal(uriFault(text), expected, text)
})
