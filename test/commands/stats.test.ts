import { sql } from 'kysely'
import t from 'tap'
import { runCommand } from '../helpers/command.ts'
import { connect } from '../helpers/connect.ts'
import { hasNoStackTrace, inParallel, start } from '../helpers/load.ts'
import { endOf } from '../helpers/tail.ts'

const server = await start(t)
const root = connect(server.database.superUrl)
t.teardown(() => root.destroy())

const FROM = '2026-01-31T12:00:00Z'
const UNTIL = '2026-01-31T16:00:00Z'
const TIMES = ['--from', FROM, '--until', UNTIL]

await sql`
  WITH added AS (
    INSERT INTO sluice.series (source, type) VALUES ('', 'order'), ('', ${'\u001b[31mred'}) RETURNING series, type
  )
  INSERT INTO sluice.rollups (series, seconds, start, records, bytes, duplicates, rejected)
  SELECT series, seconds, date_bin(make_interval(secs => seconds), ${FROM}::timestamptz + make_interval(hours => hour), '2026-01-01Z'),
         sum(records), 1000 * sum(records), count(*), 2 * count(*)
  FROM (
    SELECT series, type FROM added UNION ALL SELECT series, '' FROM sluice.series WHERE source = '' AND type = ''
  ) AS series
  JOIN (VALUES ('order', 0, 1000), ('order', 2, 8000), (${'\u001b[31mred'}, 3, 4000), ('', 0, 1500), ('', 2, 8000), ('', 3, 4000))
       AS counted (type, hour, records) USING (type)
  CROSS JOIN (VALUES (3600), (86400)) AS lengths (seconds)
  GROUP BY 1, 2, 3`.execute(root)

const stats = (args: string[], env: Record<string, string> = {}) =>
  endOf(runCommand(t, ['stats', ...args], { SLUICE_URL: server.url, SLUICE_KEY: server.key, ...env }))

t.test('a plot shows the records over time', async (t) => {
  const { code, stdout, stderr } = await stats(TIMES)
  t.match({ code, stderr }, { code: 0, stderr: '' })
  const [head, , ...lines] = stdout.trimEnd().split('\n')
  t.equal(
    head,
    'Records per hour, 2026-01-31 12:00 to 2026-01-31 16:00 UTC: 13,500 stored, 3 duplicate, 6 rejected, 13.5 MB',
  )
  t.match(lines[0], /^ {2}█ +8,000$/)
  t.equal(lines.at(-1), '█ ██', 'an hour without records is empty')
  t.equal(lines.length, 8)
})

t.test(
  'if there are more buckets than columns, a column is the sum of several, and the first line says so',
  async (t) => {
    const { stdout } = await stats(['--from', '2026-01-29T00:00:00Z', '--until', '2026-02-05T00:00:00Z'])
    const [head, , ...lines] = stdout.trimEnd().split('\n')
    t.match(head, /^Records per 3 hours, 2026-01-29 00:00 to 2026-02-05 00:00 UTC: 13,500 stored/)
    t.match(lines[0], /█ +9,500$/)
  },
)

t.test('with --by, each type has a line', async (t) => {
  const { stdout } = await stats([...TIMES, '--by', 'type'])
  const lines = stdout.trimEnd().split('\n').slice(2)
  t.match(lines[0], /^▁ █ +9,000 order$/)
  t.match(lines[1], /^ {3}█ +4,000 \\u001b\[31mred$/)
  t.match(lines[2], /^█ {3} +500 \(others\)$/)
  t.equal(lines.length, 3)
})

t.test('--json is the response of the server', async (t) => {
  const { stdout } = await stats([...TIMES, '--json', '--by', 'type', '--type', 'order', '--limit', '1'])
  const { text } = await server.get(`/v1/stats?from=${FROM}&until=${UNTIL}&by=type&type=order&limit=1&bucket=hour`)
  const withoutLag = (json: string) => ({ ...JSON.parse(json), lagSeconds: 0 })
  t.same(withoutLag(stdout), withoutLag(text))
  t.equal(JSON.parse(stdout).buckets.length, 2)
})

t.test('errors name the option', async (t) => {
  const cases: [string[], Record<string, string>, RegExp][] = [
    [['--from', 'yesterday'], {}, /--from/],
    [['--until', FROM, '--from', UNTIL], {}, /--from must be before until/],
    [['--bucket', 'week'], {}, /--bucket.*minute, hour, day/],
    [['--by', 'id'], {}, /--by.*type, source/],
    [['--limit', '0'], {}, /--limit/],
    [['--bucket', 'minute', '--from', '2020-01-01T00:00:00Z'], {}, /--bucket must be longer, or the time shorter/],
    [[], { SLUICE_KEY: 'wrong-wrong-wrong-wrong' }, /API key is not known/],
  ]
  await inParallel(cases, async ([args, env, expected]) => {
    const { code, stdout, stderr } = await stats(args, env)
    t.match({ code, stdout, stderr }, { code: 1, stdout: '', stderr: expected }, args.join(' '))
    hasNoStackTrace(t, stderr)
  })
})
