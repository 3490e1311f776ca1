import t from 'tap'
import type { HttpResponse } from '../../scripts/durability/model/client.ts'
import { contentOf, digestOf, readShown } from '../../scripts/durability/model/contents.ts'
import { type Attempt, type Claim, DELETABLE, History, RETENTION } from '../../scripts/durability/model/history.ts'
import { judgeBatch } from '../../scripts/durability/model/judge-batch.ts'
import { judgeFollower } from '../../scripts/durability/model/judge-follower.ts'
import { judgeLines } from '../../scripts/durability/model/judge-lines.ts'
import { type Plan, planRace } from '../../scripts/durability/model/plan.ts'
import { Random } from '../../scripts/durability/model/random.ts'
import { makeRequest, OWN } from '../../scripts/durability/model/requests.ts'
import { judgeRound } from '../../scripts/durability/model/verdict.ts'

// The tests give wrong runs to the model, which must find each error. Runs of real processes are in test/chaos/model.test.ts.

interface Sent {
  claim: Claim
  key?: string
  /** Other white space or another order of keys, which has the same meaning. */
  spelling?: string
  cursor?: string
  begin?: number
  identity?: string
}

const KEPT = 'model/kept/a 1'
const FREED = `${DELETABLE}a 1`

const digest = ({ key = 'A', spelling = '' }: Pick<Sent, 'key' | 'spelling'>) => `${key}${spelling}`
const row = (cursor = 'c1', key = 'A', identity = KEPT) => ({ identity, cursor, digest: key })

/** @param requests the records of each request; requests are sent one after the other */
function historyOf(requests: Sent[][], strict = false): History {
  const history = new History()
  for (const [number, records] of requests.entries()) {
    const begin = records[0]?.begin ?? number * 10
    const exchange = { number, what: '', strict, port: 1, begin, end: begin + 5, response: '' }
    const counted = { createdLines: undefined, storedLines: undefined }
    const own = { ...exchange, ...counted, attempts: [] as Attempt[] }
    for (const [index, sent] of records.entries()) {
      const { claim, cursor, key = 'A', identity = KEPT } = sent
      const [source, id] = identity.split(' ') as [string, string]
      own.attempts.push({
        exchange: own,
        index,
        identity,
        source,
        id,
        key,
        digest: digest(sent),
        bad: undefined,
        claim,
        cursor,
      })
    }
    history.add(own)
  }
  return history
}

function rulesOf(history: History, rows: ReturnType<typeof row>[]): string[] {
  judgeRound(history, rows)
  return history.findings.map(({ rule }) => rule)
}

t.test('a run in which every response is true has no finding', async (t) => {
  const runs: [Sent[][], ReturnType<typeof row>[]][] = [
    [[[{ claim: 'created', cursor: 'c1' }], [{ claim: 'duplicate', cursor: 'c1', spelling: ' ' }]], [row()]],
    [[[{ claim: 'unknown' }], [{ claim: 'conflict', cursor: 'c1', key: 'B' }]], [row()]],
    [[[{ claim: 'unknown' }]], []],
    [[[{ claim: 'not_written' }], [{ claim: 'created', cursor: 'c1' }]], [row()]],
    [[[{ claim: 'refused' }]], []],
    [[[{ claim: 'stored' }], [{ claim: 'conflict', key: 'B' }]], [row()]],
  ]
  for (const [requests, rows] of runs) t.same(rulesOf(historyOf(requests), rows), [], JSON.stringify(requests))
})

t.test('a response or a row that cannot be true is found', async (t) => {
  const created: Sent = { claim: 'created', cursor: 'c1' }
  const cases: [string, Sent[][], ReturnType<typeof row>[], string][] = [
    ['acknowledged, but missing', [[created]], [], 'An acknowledged record must be stored.'],
    ['a line that is missing', [[{ claim: 'stored' }]], [], 'An acknowledged record must be stored.'],
    ['a conflict, but nothing is stored', [[{ claim: 'conflict' }]], [], 'An acknowledged record must be stored.'],
    ['stored twice', [[created]], [row(), row('c2')], 'An identity must be stored only once.'],
    ['never sent', [], [row()], 'A stored record must have been sent.'],
    ['other content', [[created]], [row('c1', 'X')], 'A record must be stored and shown exactly as it was sent.'],
    [
      'other content, after an unknown outcome',
      [[{ claim: 'unknown' }]],
      [row('c1', 'X')],
      'Stored content must have been sent.',
    ],
    [
      'not written, but stored',
      [[{ claim: 'not_written' }]],
      [row()],
      'The response to a sender of a stored record must allow that it was stored.',
    ],
    [
      'refused, but stored',
      [[{ claim: 'refused' }]],
      [row()],
      'The response to a sender of a stored record must allow that it was stored.',
    ],
    [
      'only duplicates',
      [[{ claim: 'duplicate', cursor: 'c1' }]],
      [row()],
      'The response to a sender of a stored record must allow that it was stored.',
    ],
    ['created twice', [[created], [created]], [row()], 'Only one response may say that it created a record.'],
    ['another cursor', [[created], [{ claim: 'duplicate', cursor: 'c2' }]], [row()], 'A record must keep its cursor.'],
    [
      'a duplicate of other content',
      [[created], [{ claim: 'duplicate', cursor: 'c1', key: 'B' }]],
      [row()],
      'A record may be a duplicate only if the same content is stored.',
    ],
    [
      'a conflict with the same content',
      [[created], [{ claim: 'conflict', cursor: 'c1', spelling: ' ' }]],
      [row()],
      'A record may be a conflict only if other content is stored.',
    ],
    [
      'a duplicate before it was sent',
      [[{ claim: 'duplicate', cursor: 'c1', begin: 0 }], [{ ...created, begin: 50 }]],
      [row()],
      'No response or read may mention a record before it is sent.',
    ],
  ]
  for (const [name, requests, rows, rule] of cases) t.ok(rulesOf(historyOf(requests), rows).includes(rule), name)
})

t.test('an identity can be created again only if retention ran in between', async (t) => {
  const [first, second] = ['c1', 'c2'].map((cursor) => [{ claim: 'created', cursor, identity: FREED }] as Sent[])
  const requests = [first, second] as Sent[][]
  const history = historyOf(requests)
  history.faults.push({ what: RETENTION, begin: 3, end: 12 })
  t.same(rulesOf(history, [row('c2', 'A', FREED)]), [])
  t.equal(rulesOf(historyOf(requests), [row('c2', 'A', FREED)]).length, 1)
})

t.test('a half stored strict request with an unknown outcome is found', async (t) => {
  const [one, other] = [`${OWN} 1.0`, `${OWN} 1.1`]
  const history = historyOf(
    [
      [
        { claim: 'unknown', identity: one },
        { claim: 'unknown', identity: other },
      ],
    ],
    true,
  )
  t.same(rulesOf(history, [row('c1', 'A', one)]), ['A strict request must be stored completely or not at all.'])
})

t.test('a wrong number of created lines is found', async (t) => {
  const [one, other] = ['model/kept/a 1', 'model/kept/a 2']
  const history = historyOf([
    [{ claim: 'created', identity: one, cursor: 'c1' }],
    [
      { claim: 'stored', identity: one },
      { claim: 'stored', identity: other },
    ],
  ])
  const [, lines] = history.exchanges
  Object.assign(lines as object, { createdLines: 1 })
  const rows = [row('c1', 'A', one), row('c2', 'A', other)]
  t.same(rulesOf(history, rows), [])
  Object.assign(lines as object, { createdLines: 2 })
  t.ok(rulesOf(history, rows).includes('The number of created records must be true.'))
})

t.test('a broken stream with a wrong count of stored or created lines is found', async (t) => {
  const [one, other, lost] = [1, 2, 3].map((id) => `model/kept/a ${id}`) as [string, string, string]
  const rows = [row('c1', 'A', one), row('c2', 'A', other)]
  const rulesWith = (created: number, duplicate: number, before: Sent[][] = [], more: typeof rows = []) => {
    const lines: Sent[] = [
      { claim: 'stored', identity: one },
      { claim: 'unknown', identity: other },
      { claim: 'unknown', identity: lost },
    ]
    const history = historyOf([...before, lines])
    Object.assign(history.exchanges.at(-1) as object, { createdLines: created, storedLines: created + duplicate })
    return rulesOf(history, [...rows, ...more])
  }
  t.same(rulesWith(1, 0), [], 'the line after the gap was stored after the response')
  t.same(rulesWith(2, 0), [])
  t.ok(rulesWith(2, 1).includes('The number of stored lines must not exceed the lines that are stored.'))
  t.ok(rulesWith(3, 0).includes('The number of created records must be true.'))
  t.ok(rulesWith(0, 1).includes('The number of created records must be true.'), 'no other request sent it')
  const others: Sent[][] = [[{ claim: 'created', identity: other, cursor: 'c2' }]]
  t.same(rulesWith(1, 1, others), [])
  t.ok(rulesWith(2, 0, others).includes('The number of created records must be true.'), 'another request created it')
  const conflict: Sent[][] = [[{ claim: 'created', identity: lost, cursor: 'c3', key: 'B' }]]
  t.same(rulesWith(2, 1, conflict, [row('c3', 'B', lost)]), [
    'The number of stored lines must not exceed the lines that are stored.',
  ])
})

t.test('a read that misses an acknowledged record is found', async (t) => {
  const history = historyOf([[{ claim: 'created', cursor: 'c1' }]])
  history.of(KEPT).absences.push({ begin: 3, end: 9 })
  t.same(rulesOf(history, [row()]), [], 'it began before the response')
  history.of(KEPT).absences.push({ begin: 6, end: 9 })
  t.ok(rulesOf(history, [row()]).includes('A read must find a record that was acknowledged before.'))
})

t.test('a record that is shown at any time, but not stored, is found', async (t) => {
  const rulesAfter = (identity: string, claim: Claim, rows: ReturnType<typeof row>[]) => {
    const history = historyOf([[{ claim, identity }]])
    history.of(identity).sightings.push({ by: 'a page', begin: 1, end: 2, cursor: 'c1', digest: 'A' })
    return rulesOf(history, rows)
  }
  t.same(rulesAfter(KEPT, 'unknown', [row()]), [])
  t.same(rulesAfter(KEPT, 'unknown', []), ['A record that is shown must be stored.'])
  t.same(rulesAfter(FREED, 'unknown', []), [], 'retention has deleted it')
})

t.test('rows whose offsets do not sort in feed order are found', async (t) => {
  const [one, other] = ['model/kept/a 1', 'model/kept/a 2']
  const requests: Sent[][] = [
    [{ claim: 'created', identity: one, cursor: 'c9' }],
    [{ claim: 'created', identity: other, cursor: 'c10' }],
  ]
  const rows = [row('c9', 'A', one), row('c10', 'A', other)]
  t.same(rulesOf(historyOf(requests), rows.toReversed()), [])
  t.same(rulesOf(historyOf(requests), rows), ['Offsets must sort in feed order.'])
})

t.test('a follower that does not see each row once and in order is found', async (t) => {
  // Retention can delete c2, so a follower may see it or not.
  const nameOf = (cursor: string) => `${cursor === 'c2' ? FREED : KEPT}${cursor}`
  const rows = ['c1', 'c2', 'c3', 'c4'].map((cursor) => row(cursor, 'A', nameOf(cursor)))
  const findingsWith = (...cursors: string[]) => {
    const history = new History()
    const shown = cursors.map((cursor) => {
      const [source, id] = nameOf(cursor).split(' ') as [string, string]
      return { source, id, cursor, digest: 'A' }
    })
    judgeFollower(history, rows, { name: 'pages', shown })
    return history.findings.map(({ rule, identity }) => `${identity}: ${rule}`)
  }
  const missing = (cursor: string) => [`${nameOf(cursor)}: A follower must see every record.`]
  const twice = (cursor: string) => [`${nameOf(cursor)}: A follower must see each record only once.`]
  const late = (cursor: string) => [`${nameOf(cursor)}: A follower must see all records in feed order.`]
  t.same(findingsWith('c1', 'c3', 'c4'), [])
  t.same(findingsWith('c1', 'c2', 'c3', 'c4'), [])
  t.same(findingsWith('c1', 'c3'), missing('c4'))
  t.same(findingsWith('c1', 'c4'), missing('c3'))
  t.same(findingsWith('c1', 'c3', 'c3', 'c4'), twice('c3'))
  t.same(findingsWith('c1', 'c3', 'c4', 'c1'), twice('c1'))
  t.same(findingsWith('c1', 'c2', 'c2', 'c3', 'c4'), twice('c2'))
  t.same(findingsWith('c1', 'c4', 'c3'), late('c3'))
  t.same(findingsWith('c1', 'c3', 'c2', 'c4'), late('c2'))
})

t.test('one digit makes two contents different, but the API’s form of a record does not', async (t) => {
  const [zero, seven] = [contentOf('x', 0, 0), contentOf('x', 7, 0)]
  t.same(JSON.parse(zero.data as string).n, JSON.parse(seven.data as string).n)
  t.not(digestOf(zero, undefined), digestOf(seven, undefined))
  const shown = `{"specversion":"1.0","source":"s","id":"1","type":"${zero.type}","time":"T","data":${zero.data},"receivedAt":"T","cursor":"c"}`
  t.same(readShown(shown), { source: 's', id: '1', cursor: 'c', digest: digestOf(zero, undefined) })
})

t.test('a response that does not fit its request is found', async (t) => {
  const base: Plan = { ...planRace(new Random(1)), strict: false, minimal: false, badShare: 0, pieces: 1, records: 2 }
  const request = (plan: Partial<Plan>) =>
    makeRequest(new Random(1), { number: 1, plan: { ...base, ...plan }, fresh: true })
  const respond = (status: number, body: object, type = 'application/json'): HttpResponse => ({
    status,
    headers: { 'content-type': type, 'retry-after': '1' },
    text: JSON.stringify({ status, ...body }),
  })
  const problem = (status: number, body: object) => respond(status, body, 'application/problem+json')
  const found = (judge: typeof judgeBatch, plan: Partial<Plan>, response: HttpResponse) => {
    const rules: string[] = []
    judge(request(plan), response, (rule) => rules.push(rule))
    return rules
  }
  const array = { format: 'array', shape: 'array' } as const
  const lines = { format: 'lines', shape: 'line' } as const
  const counts = { created: 2, duplicate: 0, conflict: 0, rejected: 0 }
  const report = { counts, lines: 2, committedLines: 2, rejections: [], rejectionsOmitted: 0 }
  const results = [0, 1].map((index) => ({
    index,
    source: 'model/kept/fresh',
    id: `1.${index}`,
    status: 'created',
    cursor: 'c',
  }))
  const unavailable = { code: 'database_unavailable', retryable: true, outcome: 'not_written' }

  t.same(found(judgeBatch, array, respond(201, { counts, results })), [])
  t.same(found(judgeLines, lines, respond(201, report)), [])
  t.same(
    found(
      judgeLines,
      lines,
      problem(503, { ...unavailable, ...report, counts: { ...counts, created: 0 }, committedLines: 0 }),
    ),
    [],
  )
  const broken = request(lines)
  const some = { ...report, counts: { ...counts, created: 1, duplicate: 1 }, committedLines: 1 }
  judgeLines(broken, problem(503, { ...unavailable, outcome: 'unknown', ...some }), (rule) => t.fail(rule))
  t.match(
    broken.exchange,
    { createdLines: 1, storedLines: 2 },
    'the counts of a broken stream are kept for the verdict',
  )
  const wrong: [string, typeof judgeBatch, Partial<Plan>, HttpResponse][] = [
    ['a 500', judgeBatch, array, problem(500, { ...unavailable, code: 'internal_error' })],
    ['a refusal without a problem document', judgeBatch, array, respond(503, unavailable)],
    ['a refusal without an outcome', judgeBatch, array, problem(503, { code: unavailable.code, retryable: true })],
    ['a result is missing', judgeBatch, array, respond(201, { counts, results: results.slice(1) })],
    ['counts of other results', judgeBatch, array, respond(201, { counts: { ...counts, created: 3 }, results })],
    [
      'a valid record is rejected',
      judgeBatch,
      array,
      problem(422, {
        code: 'rejected',
        retryable: false,
        outcome: 'not_written',
        errors: [0, 1].map((index) => ({ index, code: 'required', pointer: '/type' })),
      }),
    ],
    [
      'half a strict batch',
      judgeBatch,
      { ...array, strict: true },
      respond(207, {
        counts: { ...counts, created: 1, conflict: 1 },
        results: [results[0], { ...results[1], status: 'conflict' }],
      }),
    ],
    ['one line too few', judgeLines, lines, respond(201, { ...report, committedLines: 1 })],
    ['not written, but lines are stored', judgeLines, lines, problem(503, { ...unavailable, ...report })],
    [
      'fewer stored than committed',
      judgeLines,
      lines,
      problem(503, { ...unavailable, outcome: 'unknown', ...report, counts: { ...counts, created: 1 } }),
    ],
    [
      'more stored and refused than read',
      judgeLines,
      lines,
      problem(503, {
        ...{ ...unavailable, outcome: 'unknown', ...report, lines: 1, committedLines: 1 },
        counts: { ...counts, created: 2 },
      }),
    ],
    [
      'a valid line is rejected',
      judgeLines,
      lines,
      respond(207, {
        ...report,
        counts: { ...counts, created: 1, rejected: 1 },
        rejections: [{ line: 1, code: 'required', pointer: '/type' }],
      }),
    ],
  ]
  for (const [name, judge, plan, response] of wrong) t.ok(found(judge, plan, response).length > 0, name)
})
