import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parser } from '@prometheus-io/lezer-promql'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { parse, stringify } from 'yaml'
import { JOBS, recordJobRun } from '../../src/data/jobs.ts'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { find, type Manifest, podsOf, render, repository } from '../helpers/kustomize.ts'
import { type Scrape, scrape } from '../helpers/scrape.ts'
import { missing } from '../helpers/skipping.ts'
import { until } from '../helpers/until.ts'

const skip = missing('kubectl')
const read = (path: string) => readFileSync(new URL(path, repository), 'utf8')

const objects = skip ? [] : render('ha')
const groups: Manifest[] = parse(read('k8s/components/monitoring/alerts.yaml'), { merge: true }).spec.groups
const rules = groups.flatMap(({ rules }) => rules)
const alerts = rules.filter(({ alert }) => alert !== undefined)
const dashboard = JSON.parse(read('k8s/components/monitoring/dashboard.json'))
const unitTests = ['alerts.promtool.yaml', 'alerts-of-days.promtool.yaml']

/** The labels that Prometheus and its operator add. */
const TARGET_LABELS = ['job', 'instance', 'namespace', 'pod']

/** Metrics that Sluice does not export: of kube-state-metrics, of CloudNativePG's plugin, and of the recording rules. */
const OTHERS = new Set([
  'kube_cronjob_created',
  'barman_cloud_cloudnative_pg_io_last_available_backup_timestamp',
  ...rules.map(({ record }) => record),
])

// — scraping —

t.test('the PodMonitor selects the pods and the metrics port of the API', { skip }, async (t) => {
  const { spec } = find(objects, 'PodMonitor', 'sluice-api')
  const found = podsOf(objects).filter(({ labels }) =>
    Object.entries(spec.selector.matchLabels).every(([name, value]) => labels[name] === value),
  )
  t.same(
    found.map(({ of }) => of),
    ['Deployment sluice-api'],
  )
  const ports = found[0]?.containers.flatMap(({ ports = [] }) => ports)
  for (const { port } of spec.podMetricsEndpoints) {
    t.match(
      ports?.find(({ name }: Manifest) => name === port),
      { containerPort: 9464 },
    )
  }
})

t.test('the component can be added to k3s with one line', { skip }, async (t) => {
  // Within the repository, because kustomize needs relative paths.
  const folder = t.testdir({})
  const path = (name: string) => relative(folder, fileURLToPath(new URL(name, repository)))
  const k3s = parse(read('k8s/overlays/k3s/kustomization.yaml'))
  t.notOk(k3s.components.includes('../../components/monitoring'), 'k3s has no Prometheus operator by default')
  writeFileSync(
    join(folder, 'kustomization.yaml'),
    stringify({ resources: [path('k8s/overlays/k3s')], components: [path('k8s/components/monitoring')] }),
  )
  const text = execFileSync('kubectl', ['kustomize', folder], { encoding: 'utf8' })
  for (const kind of ['PodMonitor', 'PrometheusRule']) t.match(text, new RegExp(`^kind: ${kind}$`, 'm'))
  t.match(text, /^ {2}name: sluice-dashboard\n {2}namespace: sluice$/m)
})

// — rules —

t.test('the rules are valid, and pass their unit tests', { skip: missing('promtool') }, async (t) => {
  const folder = t.testdir({})
  mkdirSync(folder, { recursive: true })
  const promtool = (...args: string[]) =>
    execFileSync('promtool', args, { cwd: folder, encoding: 'utf8', stdio: 'pipe' })
  writeFileSync(join(folder, 'all.yaml'), stringify({ groups }))
  t.match(promtool('check', 'rules', 'all.yaml'), `SUCCESS: ${rules.length} rules found`)

  // The annotations have no effect on when an alert fires.
  const bare = groups.map(({ name, rules }) => ({
    name,
    rules: rules.map(({ annotations, ...rule }: Manifest) => rule),
  }))
  writeFileSync(join(folder, 'rules.yaml'), stringify({ groups: bare }))
  for (const file of unitTests) {
    writeFileSync(join(folder, file), read(`test/k8s/${file}`))
    t.match(promtool('test', 'rules', file), 'SUCCESS')
  }
})

t.test('each alert has a test that fires, one that does not, a summary, and a line in the runbook', async (t) => {
  const tests = unitTests.flatMap((file) => parse(read(`test/k8s/${file}`)).tests)
  const cases = tests.flatMap((test: Manifest) => test.alert_rule_test)
  const runbook = read('k8s/components/monitoring/README.md')
    .split(/^## /m)
    .find((section) => section.startsWith('Runbook\n'))
  const lines = new Set([...(runbook ?? '').matchAll(/^\| `(\w+)` (?:\| [^|]+ ){3}\|$/gm)].map(([, alert]) => alert))
  for (const { alert, labels, annotations } of alerts) {
    const fires = cases.filter(({ alertname }: Manifest) => alertname === alert)
    for (const count of [0, 1])
      t.ok(
        fires.some((one: Manifest) => one.exp_alerts.length === count),
        `${alert}: ${count}`,
      )
    t.match(labels.severity, /^(critical|warning)$/)
    t.match(annotations.summary, /\.$/)
    t.match(annotations.runbook_url, /\/k8s\/components\/monitoring\/README\.md#runbook$/)
    t.ok(lines.delete(alert), `${alert} is in the runbook`)
  }
  t.same([...lines], [], 'every line of the runbook has an alert')
})

// — metrics —

t.test('rules and dashboard use only metrics and labels that exist, and every sluice_ metric', async (t) => {
  const now = await scrapeUnderLoad(t)
  const names = new Set(now.samples.map(({ name }) => name))
  const labels = new Set([...TARGET_LABELS, ...now.samples.flatMap(({ labels }) => Object.keys(labels))])
  const labelsOf = (name: string) =>
    new Set(now.samples.filter((one) => one.name === name).flatMap((one) => Object.keys(one.labels)))

  const used = new Set<string>()
  for (const { from, text } of expressions()) {
    const { selectors, grouping, errors } = readPromql(text)
    t.same(errors, [], `${from}: ${text}`)
    t.same(
      [...grouping].filter((label) => !labels.has(label)),
      [],
      `${from}: labels`,
    )
    for (const { metric, matched } of selectors) {
      if (OTHERS.has(metric)) continue
      t.ok(names.has(metric), `${from}: ${metric}`)
      const known = labelsOf(metric)
      const unknown = matched.filter((label) => !known.has(label) && !TARGET_LABELS.includes(label))
      t.same(unknown, [], `${from}: labels of ${metric}`)
      used.add(metric)
    }
  }
  const ours = [...now.text.matchAll(/^# TYPE (sluice_\w+) /gm)].map(([, name]) => name as string)
  const shown = (name: string) => ['', '_count', '_sum', '_bucket'].some((suffix) => used.has(name + suffix))
  t.same(
    ours.filter((name) => !shown(name)),
    [],
    'every metric is used',
  )
})

t.test('metric names and labels are found in a PromQL expression, and so is a syntax error', async (t) => {
  const { selectors, grouping, errors } = readPromql(
    'sum by (a, b) (rate(x_total{c="1", d=~"2"}[5m])) / on (e) y and time() > 1',
  )
  t.same(errors, [])
  t.same(selectors, [
    { metric: 'x_total', matched: ['c', 'd'] },
    { metric: 'y', matched: [] },
  ])
  t.same([...grouping], ['a', 'b', 'e'])
  t.not(readPromql('sum by (a (x)').errors.length, 0)
})

t.test('the dashboard has a fixed name and the label for the sidecar, and its panels do not overlap', async (t) => {
  const [uids, cells] = [new Set(), new Set()]
  for (const { id, gridPos } of dashboard.panels) {
    t.notOk(uids.has(id), `panel ${id}`)
    uids.add(id)
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        t.ok(x < 24 && !cells.has(`${x} ${y}`) && cells.add(`${x} ${y}`), `panel ${id} at ${x} ${y}`)
      }
    }
  }
  if (skip) return
  const { metadata, data } = find(objects, 'ConfigMap', 'sluice-dashboard')
  t.match(metadata, { namespace: 'sluice', labels: { grafana_dashboard: '1' } })
  t.same(JSON.parse(data['sluice.json']), dashboard)
})

// — helpers —

/** All PromQL expressions of the component, with their origin. */
function expressions(): { from: string; text: string }[] {
  const [, variable] = dashboard.templating.list
  const [, metric] = /^label_values\((\w+), \w+\)$/.exec(variable.query.query) ?? []
  return [
    ...rules.map(({ alert, record, expr }) => ({ from: alert ?? record, text: expr })),
    ...dashboard.panels.flatMap(({ title, targets = [] }: Manifest) =>
      targets.map(({ expr }: Manifest) => ({
        from: `panel "${title}"`,
        text: expr.replaceAll('$__rate_interval', '5m'),
      })),
    ),
    { from: 'a variable', text: metric as string },
  ]
}

/** Parses with the grammar of Prometheus' own editor. */
function readPromql(text: string) {
  const selectors: { metric: string; matched: string[] }[] = []
  const grouping = new Set<string>()
  const errors: string[] = []
  parser.parse(text).iterate({
    enter({ type, node, from, to }) {
      const word = text.slice(from, to)
      if (type.isError) errors.push(`at ${from}`)
      if (type.name === 'Identifier') selectors.push({ metric: word, matched: [] })
      if (type.name !== 'LabelName') return
      if (node.parent?.name === 'GroupingLabels') grouping.add(word)
      else selectors.at(-1)?.matched.push(word)
    },
  })
  return { selectors, grouping, errors }
}

/** Scrapes /metrics after everything that has a metric has happened. */
async function scrapeUnderLoad(t: Test): Promise<Scrape> {
  const { app, post, get, database } = await createApp(t, { STORAGE_BUDGET: '1099511627776' })
  const owner = connect(database.ownerUrl)
  t.teardown(() => owner.destroy())
  // Before the first scrape, because the next one within some seconds gets the same consumers.
  await sql`
    INSERT INTO sluice.consumers (name, epoch, xid, n, overtaken_at) VALUES ('billing', 0, '0', 0, now())`.execute(
    owner,
  )
  await app.ready()
  await until('the storage to be measured', () => app.storage.usedBytes !== undefined)
  await until('the settings to be read', async () => (await scrape(app)).text.includes('sluice_unsafe_settings{'))
  await until('the feed to be checked', async () => (await scrape(app)).value('sluice_feed_held_seconds') !== undefined)
  await until(
    'the rollups to be read',
    async () => (await scrape(app)).value('sluice_rollup_lag_seconds') !== undefined,
  )
  const record = { source: 's', type: 't', id: '1' }
  for (const body of [record, record, { ...record, data: 1 }, {}]) await post(body)
  await post(`${JSON.stringify(record)}\n`, { 'content-type': 'application/x-ndjson' })
  await get('/v1/records', { accept: 'application/x-ndjson' })
  await get('/v1/records')
  for (const job of JOBS) {
    await recordJobRun(owner as never, {
      job,
      succeeded: true,
      seconds: 1,
      figures: { bytes: 1, kept: 1, backup_age_seconds: 1, records: 1 },
      totals: { removed_records: 1, removed_bytes: 1 },
    })
  }
  return scrape(app)
}
