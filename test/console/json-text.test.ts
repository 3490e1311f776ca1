import t from 'tap'

const { elements, members, pretty } = await import(new URL('../../src/console/lib/json-text.js', import.meta.url).href)

t.test('the elements of an array keep their text', async (t) => {
  t.same(elements(''), [], 'a response without a body')
  t.same(elements('[]'), [])
  t.same(elements(' [ ] '), [])
  t.same(elements('[{"a":[1,2],"b":"],["},{"c":"\\\\"},\n{"d":"\\","}]'), [
    '{"a":[1,2],"b":"],["}',
    '{"c":"\\\\"}',
    '{"d":"\\","}',
  ])
  t.same(elements('[1.0, "x", [2], null]'), ['1.0', '"x"', '[2]', 'null'])
})

t.test('the members of an object keep their text', async (t) => {
  t.same([...members('{}')], [])
  t.same(
    [...members('{"a": 1.0, "b\\"": {"a": [1, {"x": 2}]}, "c": "}\\\\", "__proto__": null}')],
    [
      ['a', '1.0'],
      ['b"', '{"a": [1, {"x": 2}]}'],
      ['c', '"}\\\\"'],
      ['__proto__', 'null'],
    ],
  )
})

t.test('JSON is indented, and what is too long is cut', async (t) => {
  t.same(pretty('{"a":[1.0,{}],"b":"{"}'), {
    shown: '{\n  "a": [\n    1.0,\n    {}\n  ],\n  "b": "{"\n}',
    isCut: false,
  })
  const { shown, isCut } = pretty(`[${'1,'.repeat(1_000_000)}1]`)
  t.ok(isCut && shown.length <= 500_000)
  t.ok(pretty('['.repeat(100_000) + ']'.repeat(100_000)).isCut, 'deep values')
})
