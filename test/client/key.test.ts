import t from 'tap'
import { findKey } from '../../src/client/key.ts'

const KEY = 'sluice_0123456789ab_abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG'

// fetch repeated the whole key in its error.
t.test('SLUICE_KEY with something else than a key is refused with a sentence that does not repeat it', async (t) => {
  const { SLUICE_KEY } = process.env
  t.teardown(() => {
    if (SLUICE_KEY === undefined) delete process.env.SLUICE_KEY
    else process.env.SLUICE_KEY = SLUICE_KEY
  })
  for (const [text, why] of [
    [`Bearer ${KEY}`, /^SLUICE_KEY begins with Bearer: it must be the key alone/],
    [`"${KEY}"`, /^SLUICE_KEY contains a character that no key has, such as a quote/],
    [`${KEY}\n${KEY}`, /^SLUICE_KEY contains a character/],
  ] as const) {
    process.env.SLUICE_KEY = text
    const error = await findKey().then(
      () => new Error('accepted'),
      (error: Error) => error,
    )
    t.match(error.message, why)
    t.notOk(error.message.includes(KEY))
  }
  process.env.SLUICE_KEY = `${KEY}\r\n`
  t.equal((await findKey()).token, KEY)
})
