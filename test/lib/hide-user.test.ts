import t from 'tap'
import { hideUser } from '../../src/lib/hide-user.ts'

t.test('a URL, or what was meant to be one, is shown without a user and a password', async (t) => {
  for (const [text, shown] of [
    ['https://user:pass@a.example/b', 'https://…@a.example/b'],
    // A password may have any character if it is not encoded.
    ['postgres://user:p@ss/w:rd@a.example', 'postgres://…@a.example'],
    ['user:pass@a.example', '…@a.example'],
    ['"https://user:pass@a.example"', '…@a.example"'],
    ['https://user:pa\nss@a.example', 'https://…@a.example'],
    ['https://a.example/b', 'https://a.example/b'],
    ['10Gi', '10Gi'],
    ['', ''],
  ] as const)
    t.equal(hideUser(text), shown, text)
})
