import t from 'tap'
import { load, start, write } from '../helpers/load.ts'

// The server counts the lines of a request, which is only a part of a file.
t.test(
  'a line of a file that is not JSON is reported with the number of that line alone, and with options of load',
  async (t) => {
    const server = await start(t)
    const file = await write(t, 'orders.ndjson', '\n\n{"source":"s","type":"t","id":"1"}\n{"a":NaN}\n[\n')
    const { code, stderr } = await load(t, server, [file])
    t.equal(code, 1)
    t.match(
      stderr,
      /orders\.ndjson:4: The record is not JSON: the error is at character 6 of it\. JSON has no NaN: use null/,
    )
    t.match(stderr, /orders\.ndjson:5: The record is not JSON: it ends too early\. .* use --format json\./)
    t.notMatch(stderr, 'at line')
  },
)
