import fc from 'fast-check'

/**
 * Generates JSON that a program might write: numbers beyond a double, names and strings in any script, needless escapes, repeated
 * names, white space anywhere. It is text, because parsing would lose much of this.
 * @param options.unstorable also generates what PostgreSQL cannot store: U+0000, lone surrogates, huge exponents
 */
export function jsonText({ unstorable = false, maxDepth = 5 } = {}): fc.Arbitrary<string> {
  const space = fc.string({ unit: fc.constantFrom(' ', '\n', '\r', '\t'), maxLength: 2 })
  const string = fc
    .array(fc.oneof({ weight: 4, arbitrary: character }, { weight: unstorable ? 1 : 0, arbitrary: badCharacter }), {
      maxLength: 12,
    })
    .map((characters) => `"${characters.join('')}"`)
    // Two adjacent escapes can form or break a surrogate pair.
    .filter((text) => unstorable || JSON.parse(text).isWellFormed())
  // JSON.parse, with which tests compare, reads some names wrongly after it has seen a name with a backslash (nodejs/node#63785).
  const plain = string.filter((text) => !JSON.parse(text).includes('\\'))
  const name = fc.oneof(plain, fc.constantFrom('"a"', '"data"', '"__proto__"', '""', '"a/b~"'))
  const scalar = fc.oneof(string, number(unstorable), fc.constantFrom('true', 'false', 'null'))

  const padded = (value: fc.Arbitrary<string>) => fc.tuple(space, value, space).map((parts) => parts.join(''))
  const { value } = fc.letrec<{ value: string }>((tie) => ({
    value: fc.oneof(
      { maxDepth, depthSize: 'small', withCrossShrink: true },
      { weight: 3, arbitrary: scalar },
      {
        weight: 2,
        arbitrary: fc.array(padded(tie('value')), { maxLength: 4 }).map((values) => `[${values.join() || ' '}]`),
      },
      {
        weight: 2,
        arbitrary: fc
          .array(fc.tuple(padded(name), padded(tie('value'))), { maxLength: 4 })
          .map((members) => `{${members.map((member) => member.join(':')).join() || '\n'}}`),
      },
    ),
  }))
  return value
}

const hex = (code: number) => `\\u${code.toString(16).padStart(4, '0')}`

const character = fc.oneof(
  fc.string({ unit: 'grapheme', minLength: 1, maxLength: 3 }).map((text) => JSON.stringify(text).slice(1, -1)),
  fc.constantFrom(
    '\\"',
    '\\\\',
    '\\/',
    '\\b',
    '\\n',
    '\\\\u0000',
    '\\\\ud800',
    '/',
    '\u2028',
    '\\u0001',
    ']',
    '}',
    ',',
    ':',
  ),
  fc.integer({ min: 1, max: 0xd7ff }).map(hex),
  fc
    .integer({ min: 0x10000, max: 0x10ffff })
    .map((code) =>
      [...String.fromCodePoint(code)]
        .flatMap((pair) => [hex(pair.charCodeAt(0)), hex(pair.charCodeAt(1)).toUpperCase().replace('\\U', '\\u')])
        .join(''),
    ),
)

const badCharacter = fc.oneof(fc.constant('\\u0000'), fc.integer({ min: 0xd800, max: 0xdfff }).map(hex))

const digits = (minLength: number, maxLength: number) =>
  fc.string({ unit: fc.constantFrom(...'0123456789'), minLength, maxLength })

function number(unbounded: boolean): fc.Arbitrary<string> {
  const exponent = unbounded
    ? fc.oneof(fc.integer({ min: -400, max: 400 }), fc.integer({ min: -140_000, max: 140_000 }))
    : fc.integer({ min: -400, max: 400 })
  return fc
    .tuple(
      fc.constantFrom('', '-'),
      fc.oneof(
        fc.constant('0'),
        fc.tuple(fc.constantFrom(...'123456789'), digits(0, 40)).map((parts) => parts.join('')),
      ),
      fc.option(
        digits(1, 40).map((fraction) => `.${fraction}`),
        { nil: '' },
      ),
      fc.option(
        fc
          .tuple(fc.constantFrom('e', 'E', 'e+'), exponent)
          .map(([e, n]) => (n < 0 ? `${e.charAt(0)}${n}` : `${e}${n}`)),
        { nil: '' },
      ),
    )
    .map((parts) => parts.join(''))
}
