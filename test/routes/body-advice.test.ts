import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { isProblem } from '../helpers/problem.ts'
import { BYTES } from './body-advice/bytes.ts'
import { FORMATS } from './body-advice/formats.ts'
import { RECORDS } from './body-advice/records.ts'
import { SYNTAX } from './body-advice/syntax.ts'

const { post } = await createApp(t, { MAX_RECORD_BYTES: '10000', MAX_BATCH_BYTES: '20000', MAX_BATCH_RECORDS: '3' })

for (const [title, cases] of Object.entries({ BYTES, FORMATS, SYNTAX, RECORDS }))
  t.test(`what is wrong with the body, and what to do: ${title.toLowerCase()}`, async (t) => {
    for (const [name, body, headers, code, pointer, advice] of cases) {
      const answer = await post(body, headers)
      isProblem(t, answer, code, { name })
      t.match(answer.json.detail, advice, name)
      t.equal(answer.json.errors?.[0]?.pointer, pointer, name)
    }
  })
