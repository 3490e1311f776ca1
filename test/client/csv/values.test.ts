import t from 'tap'
import { cellReader } from '../../../src/client/csv/values.ts'
import type { Decimal } from '../../../src/client/mapping.ts'

interface Options {
  json?: boolean
  decimal?: Decimal
  nulls?: string[]
}

/** The JSON of a cell of a column of numbers (or JSON); null: no value. Or the reason. */
function read(cell: string, { json = false, decimal = '.', nulls = [] }: Options = {}): string | null {
  const column = new Set(['n'])
  const mapping = {
    map: new Map(),
    set: new Map(),
    json: json ? column : new Set<string>(),
    nulls: new Set(nulls),
    decimal,
  }
  const result = cellReader({ name: 'n', at: 0 }, { ...mapping, numbers: column })(cell)
  return 'json' in result ? result.json : result.reason
}

t.test('a number keeps its digits, however it is written', (t) => {
  for (const [cell, number, decimal] of [
    ['12', '12'],
    ['-0', '-0'],
    ['.097', '0.097'],
    ['-.5', '-0.5'],
    ['+1', '1'],
    ['1.', '1'],
    ['1.50', '1.50'],
    ['1e5', '1e5'],
    ['1.5E-7', '1.5E-7'],
    [' 7 ', '7'],
    ['12345678901234567890.10', '12345678901234567890.10'],
    ['1,50', '1.50', ','],
    ['-,5', '-0.5', ','],
    ['3', '3', ','],
    ['1,5e3', '1.5e3', ','],
    ['', null],
  ] as const)
    t.equal(read(cell, { decimal: decimal ?? '.' }), number, JSON.stringify(cell))
  t.end()
})

t.test('what is not clearly a number is refused, with what to type', (t) => {
  for (const [cell, reason, options] of [
    [
      '1,50',
      '"1,50" in the column "n" is not a number. If its decimal separator is ,, use --decimal ,. If , separates thousands, remove it, or omit --number n to keep it as text.',
    ],
    ['1,234', /use --decimal ,\. If , separates thousands, remove it/],
    ['1.50', /^"1\.50" .* If its decimal separator is \., use --decimal \./, { decimal: ',' }],
    ['1.234,50', /Remove what separates its thousands/, { decimal: ',' }],
    ['1,234.50', /Remove what separates its thousands/],
    ['1 234', /Remove what separates its thousands/],
    ["1'234", /Remove what separates its thousands/],
    ['007', /It begins with 0, so it may be a code: omit --number n/],
    ['00.5', /It begins with 0/],
    ['NaN', /If it means that there is no value, use --null NaN\.$/],
    ['N/A', /use --null N\/A\.$/],
    ['NULL', /use --null NULL\.$/],
    ['-', /use --null -\.$/],
    ['12 %', /Correct it, or omit --number n/],
    ['.', /Correct it/],
    ['0x1f', /It begins with 0|Correct it/],
    [
      '.097',
      '".097" in the column "n" is not JSON. Use --number n instead of --json: JSON writes 0.097.',
      { json: true },
    ],
    [
      '1,50',
      '"1,50" in the column "n" is not JSON. Use --number n instead of --json, and --decimal ,: JSON writes 1.50.',
      { json: true },
    ],
    ['+1', /JSON writes 1\.$/, { json: true }],
    ['NaN', /use --null NaN\.$/, { json: true }],
    ['one', '"one" in the column "n" is not JSON. If it is text, omit --json n.', { json: true }],
    ['007', /If it is text, omit --json n/, { json: true }],
    ['\x1b]0;x\x07', /^"\\u001b\]0;x\\u0007" in the column/, { json: true }],
  ] as [string, string | RegExp, Options?][])
    t.match(read(cell, options), reason, JSON.stringify(cell))
  t.end()
})

t.test('a cell with a text of --null has no value', (t) => {
  t.equal(read('N/A', { nulls: ['N/A'] }), null)
  t.equal(read('NaN', { nulls: ['NaN'], json: true }), null)
  t.match(read('n/a', { nulls: ['N/A'] }), 'is not a number')
  t.end()
})
