import t from 'tap'
import { readJsonpath } from '../../src/read/jsonpath.ts'

function refusalOf(jsonpath: string): string {
  try {
    readJsonpath(jsonpath)
  } catch (error) {
    return (error as Error).message
  }
  return 'no error'
}

t.test('what other languages write is refused, and the message says what to write instead', async (t) => {
  for (const [jsonpath, where, instead] of [
    // A field begins with data, a jsonpath with $.
    ['data.total > 10', 1, '$ is the data: write $.total'],
    ['data > 10', 1, '$ is the data: write $'],
    ['data[0] > 10', 1, '$ is the data: write $'],
    ['database > 10', 1, 'write a path, such as $.database'],
    ['.total > 10', 1, 'write a path, such as $.total'],
    ['$.items[*] ? (data.a == 1)', 15, 'write a path, such as @.a'],
    // RFC 9535, JavaScript, Python and jq.
    ['$.items[?(@.price>10)]', 9, 'write a filter after the brackets and in parentheses: [*] ? (@.price > 10)'],
    ['$[?@.a>1]', 3, 'write a filter after the brackets'],
    ["$['delay'] > 100", 3, 'write a member as ."delay"'],
    ['$["delay"] > 100', 3, 'write a member as ."delay"'],
    ["$.'delay' > 100", 3, 'write a member as ."delay"'],
    ['$.items[-1] == 1', 9, 'write [last] for the last item'],
    ['$.items[].sku == 1', 9, 'write [*] for all items'],
    ['$.items[0:2] == 1', 9, 'write [0] or another position'],
    ['$..price > 10', 3, 'write .**.price for a member at any depth'],
    ['$.items.0.sku == "x"', 9, 'write [0] for a position, without the dot'],
    ['$.["a"] == 1', 3, 'remove the dot before the bracket'],
    // SQL and others.
    ['$.a in (1,2)', 5, 'write $.a == 1 || $.a == 2, or for texts like_regex "^(x|y)$"'],
    ['$.a BETWEEN 1 AND 5', 5, 'join two comparisons with &&'],
    ['100 < $.delay < 200', 15, 'this is a second comparison. Join two with &&'],
    ['($.a == 1) == true', 12, 'this is a second comparison'],
    ['$.a gt 5', 5, 'write ==, !=, >, >=, < or <='],
    ['$.a => 5', 5, 'write >=, <= or !='],
    ['$.a \u2265 5', 5, 'write >=, <= or !='],
    ['$.a =~ "x"', 5, 'write like_regex "pattern"'],
    ['$.a startsWith "x"', 5, 'write starts with "text"'],
    ['$.a IS TRUE', 5, 'write == true'],
    ['$.a exists', 5, 'write exists($.a)'],
    ['NOT EXISTS($.a)', 1, 'write ! for not'],
    ['$.a > 1 && < 5', 12, 'write the path again, as in $.a > 10 && $.a < 20'],
    ['$.a > 1,5', 8, 'write a number with a decimal point'],
    ['$.a::int > 3', 4, 'casts are not possible'],
    ["$->>'a' == 1", 2, 'write a member as $.name'],
    ['$.2nd == 1', 3, 'A name with other characters is written in double quotes'],
    ['$.a === 5', 7, 'write == to compare'],
    ['$.a == TRUE', 8, 'write true in lower case'],
    ['$.a == Null', 8, 'write null in lower case'],
    ['$.a == None', 8, 'write null'],
    [
      'exists($.a == 1)',
      12,
      'exists has a path alone. Leave exists out, or write it as a filter: exists($.a ? (@ == 1))',
    ],
    ['!exists($.a like_regex "x")', 13, 'exists has a path alone'],
    ['$.b ? (exists(@.a == 1))', 19, 'exists has a path alone. Leave exists out'],
    ['exists($.a', 0, 'a ) is missing after the path'],
    // Dates and times.
    ['$.createdAt >= 2026-01-01', 20, 'put a date or a time in double quotes, as in "2026-01-31"'],
    ['$.createdAt >= 2026-01-01T00:00:00Z', 20, 'put a date or a time in double quotes'],
    ['$.createdAt >= 31.12.2026', 16, 'put a date or a time in double quotes'],
    ['$.createdAt >= 2026/12/31', 20, 'put a date or a time in double quotes'],
    ['$.at == 12:30', 11, 'put a date or a time in double quotes'],
    // What another program did to it.
    ['$.total%3E10', 8, 'it is percent-encoded twice. Encode it once'],
    ['%24.total > 10', 1, 'it is percent-encoded twice'],
    ['$.total > %2210%22', 11, 'it is percent-encoded twice'],
    ['$.total &gt; 10', 9, 'it is encoded for HTML'],
    ['$.a == 1 &amp;&amp; $.b == 2', 10, 'it is encoded for HTML'],
    ['$.a == &quot;x&quot;', 8, 'it is encoded for HTML'],
    ['$.a == \u201cx\u201d', 8, 'write text in straight double quotes'],
    ['$.\u201ce-mail\u201d == 1', 3, 'write a member as ."e-mail"'],
    ['$.a == `x`', 8, 'write text in straight double quotes'],
    ['$.a\u00a0> 10', 4, 'this is an invisible character or an unusual space'],
    ['\ufeff$.a', 1, 'this is an invisible character'],
    ['jsonpath=$.a > 1', 1, 'remove jsonpath= at its beginning'],
    ["'$.total > 10'", 1, 'remove the quotes around it'],
    ['"$.total > 10"', 0, 'remove the quotes around it'],
    ['5', 0, 'a comparison is missing'],
  ] as [string, number, string][]) {
    const place = where === 0 ? 'wrong at its end: ' : `wrong at character ${where} (`
    const message = refusalOf(jsonpath)
    t.ok(message.includes(place) && message.includes(instead), `${jsonpath}: ${message}`)
  }
})
