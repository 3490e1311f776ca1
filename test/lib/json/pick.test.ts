import fc from 'fast-check'
import t from 'tap'
import { pick, type Wanted } from '../../../src/lib/json/pick.ts'

const wantedOf = (...paths: string[][]): Map<string, Wanted> => {
  const tree = new Map<string, Wanted>()
  for (const [at, path] of paths.entries()) {
    let members = tree
    for (const name of path.slice(0, -1)) {
      const inner = (members.get(name) as Map<string, Wanted> | undefined) ?? new Map()
      members.set(name, inner)
      members = inner
    }
    members.set(path.at(-1) as string, at)
  }
  return tree
}

function picked(text: string, ...paths: string[][]): (string | null)[] {
  const values: (string | null)[] = paths.map(() => null)
  pick(text, wantedOf(...paths), values)
  return values
}

t.test('values are found by the names of members and the positions in arrays, as they are written', (t) => {
  const text = ' { "a" : 1.50 , "b":{"c":[ true, {"d":"x\\"]"} ]}, "\\u0065" : [ ] ,"f":null}\n'
  t.same(picked(text, ['a'], ['b', 'c', '1', 'd'], ['e'], ['f'], ['b', 'c', '0'], ['none'], ['b', 'c', '00']), [
    '1.50',
    '"x\\"]"',
    '[ ]',
    'null',
    'true',
    null,
    null,
  ])
  for (const scalar of ['1', '"text"', 'null', ' true ', '[]', '{}']) t.same(picked(scalar, ['a'], ['0']), [null, null])
  t.end()
})

t.test('of members with the same name, the last one counts', (t) => {
  t.same(picked('{"a":1,"a":2}', ['a']), ['2'])
  t.same(picked('{"a":{"x":1},"a":{"y":2}}', ['a', 'x'], ['a', 'y']), [null, '2'])
  t.same(picked('{"a":{"x":1},"a":3}', ['a', 'x']), [null])
  t.end()
})

t.test('whatever the JSON, a value is the one of JSON.parse', (t) => {
  const names = fc.constantFrom('a', 'b', '0', '1', '"\\', '\u2028')
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      fc.jsonValue({ maxDepth: 0 }),
      fc.array(tie('value'), { maxLength: 3 }),
      fc.dictionary(names, tie('value'), { maxKeys: 4 }),
    ),
  }))
  const path = fc.array(names, { minLength: 1, maxLength: 3 })
  fc.assert(
    fc.property(value, path, fc.nat(3), (given, path, indent) => {
      const text = JSON.stringify(given, null, indent)
      let expected = JSON.parse(text)
      for (const name of path)
        expected =
          typeof expected === 'object' && expected !== null && Object.hasOwn(expected, name)
            ? expected[name]
            : undefined
      const [found] = picked(text, path)
      if (found == null ? expected !== undefined : JSON.stringify(JSON.parse(found)) !== JSON.stringify(expected))
        throw new Error(`${text} at ${path}: ${found}`)
    }),
    { numRuns: 1000 },
  )
  t.end()
})

// With one pass for each field, a page of 16 MiB took 14 seconds.
t.test('many wanted values take hardly longer than one', (t) => {
  const text = `{"a":[${Array(250_000).fill('11').join()}],"b":"${'x'.repeat(500_000)}"}`
  const paths = Array.from({ length: 32 }, (_, n) => ['a', String(n * 7000)])
  const time = (...paths: string[][]) => {
    const start = performance.now()
    picked(text, ...paths)
    return performance.now() - start
  }
  const least = (...paths: string[][]) => Math.min(...Array.from({ length: 5 }, () => time(...paths)))
  const [one, many] = [least(['a', '7000']), least(...paths)]
  t.comment(`${one.toFixed(1)} ms, ${many.toFixed(1)} ms`)
  t.ok(many < 8 * one, `${many} ms instead of ${one} ms`)
  t.end()
})

// What is wanted below a name was forgotten each time that the name was repeated: 27 seconds for a page.
t.test('long paths into repeated names take hardly longer than short ones', (t) => {
  const repeat = (member: string) => `{${Array(100_000).fill(member).join()}}`
  const time = (text: string, steps: number) => {
    const path = Array(steps).fill('a')
    const times = Array.from({ length: 3 }, () => {
      const start = performance.now()
      picked(text, path)
      return performance.now() - start
    })
    return Math.min(...times)
  }
  for (const member of ['"a":0', '"a":{"a":0}', '"a":{"a":0,"a":{}}']) {
    const text = repeat(member)
    const [short, long] = [time(text, 3), time(text, 2000)]
    t.comment(`${member}: ${short.toFixed(1)} ms, ${long.toFixed(1)} ms`)
    t.ok(long < 8 * short, `${long} ms instead of ${short} ms`)
  }
  t.same(picked('{"a":{"b":1,"c":2},"a":{"c":{"d":3}},"a":{"b":4}}', ['a', 'b'], ['a', 'c'], ['x']), ['4', null, null])
  t.same(picked('{"a":{"b":{"c":1}},"a":0}', ['a', 'b', 'c']), [null])
  t.end()
})
