import t from 'tap'
import { parsePolicies } from '../../src/retention/policies.ts'

const parse = (value: unknown) => parsePolicies(JSON.stringify(value), 'policies.json')

t.test('a policy is parsed into a selection and its limits', async (t) => {
  t.match(
    parse([
      { type: 'click', maxAge: '30d' },
      { sourcePrefix: 'https://shop.example/', maxCount: 1_000_000 },
      { maxBytes: '500MB' },
    ]),
    [
      { selection: { type: 'click' }, maxAgeSeconds: 30 * 86_400, maxCount: undefined, maxBytes: undefined },
      { selection: { sourcePrefix: 'https://shop.example/' }, maxAgeSeconds: undefined, maxCount: 1_000_000 },
      { selection: { type: undefined, source: undefined }, maxBytes: 500_000_000 },
    ],
  )
  const [all] = parse([{ typePrefix: 'a', source: 's', maxAge: '1w', maxCount: 1, maxBytes: '1B' }])
  t.match(all, { selection: { typePrefix: 'a', source: 's' }, maxAgeSeconds: 604_800, maxCount: 1, maxBytes: 1 })
  t.same(
    parse([{ maxAge: '1d' }, { maxAge: '1d', keepForConsumers: true }, { maxAge: '1d', keepForConsumers: false }]).map(
      (one) => one.keepForConsumers,
    ),
    [false, true, false],
  )
})

t.test('a policy for rollups deletes no records, and with a length also the shorter ones', async (t) => {
  t.match(
    parse([
      { rollups: 'minute', maxAge: '30d' },
      { rollups: 'hour', maxAge: '1d' },
    ]),
    [
      { maxAgeSeconds: undefined, rollups: { lengths: [60], maxAgeSeconds: 30 * 86_400 } },
      { maxAgeSeconds: undefined, rollups: { lengths: [60, 3600], maxAgeSeconds: 86_400 } },
    ],
  )
})

t.test('ages and sizes are converted by their units', async (t) => {
  for (const [maxAge, seconds] of Object.entries({ '90s': 90, '5m': 300, '12h': 43_200, '36500d': 3_153_600_000 }))
    t.equal(parse([{ maxAge }])[0]?.maxAgeSeconds, seconds, maxAge)
  for (const [maxBytes, bytes] of Object.entries({
    '7B': 7,
    '2kB': 2000,
    '2KiB': 2048,
    '1.5GB': 1_500_000_000,
    '3MiB': 3_145_728,
    '1TiB': 2 ** 40,
  }))
    t.equal(parse([{ maxBytes }])[0]?.maxBytes, bytes, maxBytes)
})

t.test('an empty file contains no policies', async (t) => {
  for (const text of ['', ' \n', '[]']) t.same(parsePolicies(text, 'policies.json'), [])
})

t.test('text that is not JSON is refused with the line and column', async (t) => {
  t.throws(() => parsePolicies('[\n  {"type": "click" "maxAge": "30d"}]', 'p.json'), {
    message: /^p\.json is not JSON: the error is at line 2, column 20\. A comma or a colon is missing/,
  })
})

t.test('what people write in JSON by hand is named', async (t) => {
  for (const [text, hint] of [
    ['[{"maxAge": "1d"},]', /Remove the comma before it$/],
    ['[ // old clicks\n]', /JSON has no comments: remove it$/],
    ['maxAge: 1d', /It looks like YAML\. Convert it to JSON$/],
  ] as const)
    t.throws(() => parsePolicies(text, 'p.json'), { message: hint }, text)
})

t.test('a size in another form is refused with the size that was probably meant', async (t) => {
  for (const [maxBytes, meant] of [
    ['500mb', '500MB'],
    ['10Gi', '10GiB'],
    ['64M', '64MB or 64MiB'],
  ] as const)
    t.throws(() => parsePolicies(JSON.stringify([{ maxBytes }]), 'p.json'), { message: new RegExp(`: use ${meant}$`) })
})

// Nothing is guessed, because a wrong guess deletes records that cannot be restored.
t.test('an invalid policy is refused with the file, the location and what is allowed', async (t) => {
  const unit = 'a whole number and a unit, s, m, h, d or w: 30d'
  const size = 'a number and a unit, B, kB, MB, GB, TB, KiB, MiB, GiB or TiB: 500MB'
  const name = 'text of 1 to 256 bytes without control characters, lone surrogates or noncharacters'
  const FIELDS =
    'type, typePrefix, source, sourcePrefix, extensions, rollups, maxAge, maxCount, maxBytes, keepForConsumers'
  for (const [value, fault] of [
    [{ type: 'a', maxAge: '1d' }, 'the content is {"type":"a","maxAge":"1d"}, but must be an array of policies'],
    [['30d'], '/0 is "30d", but must be an object'],
    [[{ rollups: 'minute' }], '/0 has rollups: it needs maxAge, and may have nothing else'],
    [[{ rollups: 'hour', maxAge: '1d', type: 'a' }], '/0 has rollups: it needs maxAge, and may have nothing else'],
    [[{ rollups: 'day', maxAge: '1d' }], '/0/rollups is "day", but must be "minute" or "hour"'],
    [[{ type: 'a' }], '/0 has no limit: it needs maxAge, maxCount or maxBytes'],
    [[{ keepForConsumers: true }], '/0 has no limit: it needs maxAge, maxCount or maxBytes'],
    [[{ maxAge: '1d', keepForConsumers: 'yes' }], '/0/keepForConsumers is "yes", but must be true or false'],
    [[{ maxAge: '1d' }, { typ: 'a', maxAge: '1d' }], '/1/typ is unknown: a policy has type, typePrefix, source'],
    [[{ maxage: '1d' }], `/0/maxage is unknown: a policy has ${FIELDS} (did you mean maxAge?)`],
    [[{ ttl: '1d' }], `/0/ttl is unknown: a policy has ${FIELDS} (did you mean maxAge?)`],
    [[{ xyzzy: '1d' }], `/0/xyzzy is unknown: a policy has ${FIELDS}`],
    [[{ maxCount: 0 }], '/0 would delete every record: with maxCount 0, select records, for example by source'],
    ...[{}, 'batch'].map((extensions) => [
      [{ extensions, maxCount: 0 }],
      `/0/extensions is ${JSON.stringify(extensions)}, but must be extension attributes with their values: {"batch": "import-7"}`,
    ]),
    [
      [{ extensions: { Batch: '1' }, maxCount: 0 }],
      '/0/extensions/Batch is "1", but must be extension attributes with',
    ],
    ...[null, 1.5, {}].map((batch) => [
      [{ extensions: { batch }, maxCount: 0 }],
      `/0/extensions/batch is ${JSON.stringify(batch)}, but must be text, a whole number, true or false`,
    ]),
    [[{ type: '', maxAge: '1d' }], `/0/type is "", but must be ${name}`],
    [[{ typePrefix: '', maxAge: '1d' }], `/0/typePrefix is "", but must be ${name}`],
    [[{ type: 'a\0', maxAge: '1d' }], `/0/type is "a\\u0000", but must be ${name}`],
    [[{ typePrefix: '\ud83d', maxAge: '1d' }], `/0/typePrefix is "\\ud83d", but must be ${name}`],
    [[{ type: '💥'.repeat(65), maxAge: '1d' }], `but must be ${name}`],
    [[{ source: 'a b', maxAge: '1d' }], '/0/source is "a b", but must be a URI-reference (RFC 3986) of 1 to 512 bytes'],
    [[{ sourcePrefix: '', maxAge: '1d' }], '/0/sourcePrefix is "", but must be text without control characters'],
    [[{ type: 'a', typePrefix: 'a', maxAge: '1d' }], '/0 has both type and typePrefix: use only one'],
    [[{ source: 'a', sourcePrefix: 'a', maxAge: '1d' }], '/0 has both source and sourcePrefix: use only one'],
    ...['30', 30, '30 days', '1M', '1mo', '1y', '-1d', '0d', '1.5d', '1d12h', 'P30D', '30D', ' 30d', '30d\n', null].map(
      (maxAge) => [[{ maxAge }], `/0/maxAge is ${JSON.stringify(maxAge)}, but must be ${unit}`],
    ),
    [[{ maxAge: '36501d' }], '/0/maxAge is "36501d", but must be at most 36500d'],
    [[{ maxAge: '999999999w' }], '/0/maxAge is "999999999w", but must be at most 36500d'],
    ...[-1, 1.5, '1000', 2 ** 53, null].map((maxCount) => [
      [{ maxCount }],
      `/0/maxCount is ${JSON.stringify(maxCount)}, but must be a whole number`,
    ]),
    ...[500, '500', '500mb', '500 MB', '500Mi', '-1B', '0MB', '1e3B', '1,5GB', null].map((maxBytes) => [
      [{ maxBytes }],
      `/0/maxBytes is ${JSON.stringify(maxBytes)}, but must be ${size}`,
    ]),
  ] as [unknown, string][]) {
    const message = thrown(value)
    t.ok(message.startsWith('policies.json: ') && message.includes(fault), fault, { message })
  }
})

t.test('every fault is reported on its own line', async (t) => {
  t.throws(() => parse([{ maxAge: '1y' }, { maxCount: -1, maxBytes: '1x' }]), {
    message: /^policies\.json: \/0\/maxAge .*\npolicies\.json: \/1\/maxCount .*\npolicies\.json: \/1\/maxBytes .*$/,
  })
})

function thrown(value: unknown): string {
  try {
    return `no error: ${JSON.stringify(parse(value))}`
  } catch (error) {
    return (error as Error).message
  }
}
