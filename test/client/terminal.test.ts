import t from 'tap'
import { forTerminal } from '../../src/client/terminal.ts'

t.test('a terminal gets control characters escaped, however the text is cut', async (t) => {
  const bytes = Buffer.from('a,\x1b[2Jü\n\u009b31m,山\n')
  for (const size of [1, 2, 100]) {
    async function* blocks() {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
    }
    t.equal((await Array.fromAsync(forTerminal(blocks()))).join(''), 'a,\\u001b[2Jü\n\\u009b31m,山\n')
  }
})
