import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { stringify } from 'yaml'
import { find, render, repository } from '../helpers/kustomize.ts'
import { missing } from '../helpers/skipping.ts'
import { until } from '../helpers/until.ts'

// Pastes every block of shell commands in the manuals of k8s/ into a shell. The programs are stand-ins that write down how they are
// called; the real kubectl then checks the call, except for what only a cluster knows.
const skip = missing('kubectl')
const folder = fileURLToPath(new URL('k8s', repository))
const blocks = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.md'))
  .flatMap((file) => blocksOf(readFileSync(join(folder, file), 'utf8'), file))
const COMMENT = /(^|\s)#/m
const checked = new Map<string, string>()
/** Of the Job that the CronJob of the retention creates. */
let spec: unknown

/** What each command must be followed by, before any other command (`next`) or before the end. */
const RULES: { command: RegExp; until: RegExp; next?: true; lacks: string }[] = [
  { command: /scale .*--replicas=0/, until: /wait --for=delete pod -l/, next: true, lacks: 'its pods have not ended' },
  { command: /rollout restart/, until: /rollout status/, next: true, lacks: 'it is not complete' },
  {
    command: /create (job .*--from=(?!.*--dry-run)|-f -)/,
    until: /wait .*job/,
    next: true,
    lacks: 'the Job has not ended',
  },
  {
    command: /delete statefulset(?!.*--cascade=orphan)/,
    until: /wait --for=delete pod\//,
    lacks: 'its pod has not ended',
  },
  { command: /apply -k \S+$/, until: /wait --for=condition=complete .*job/, lacks: 'the Jobs and pods are not ready' },
]

t.ok(blocks.length > 15)

t.test('no block of commands in any manual has comments', async (t) => {
  // An interactive zsh takes a comment for arguments: `scripts/restore.sh # list the backups` would restore the backup `#`.
  for (const file of [
    'README.md',
    'src/README.md',
    'src/feed/recipes.md',
    'src/read/README.md',
    'src/retention/README.md',
    'src/client/README.md',
    'scripts/README.md',
    'scripts/without-kubernetes.md',
    '.github/CONTRIBUTING.md',
  ]) {
    for (const { text } of blocksOf(readFileSync(new URL(file, repository), 'utf8'))) t.notMatch(text, COMMENT, file)
  }
  for (const { name, text } of blocks) t.notMatch(text, COMMENT, name)
})

for (const { name, text } of blocks) {
  t.test(name, { skip }, async (t) => {
    for (const shell of ['bash', 'zsh'].filter(isInstalled)) {
      const calls = await paste(t, shell, text)
      for (const call of calls) t.equal(complaintAbout(call), '', call.join(' '))
      t.same(unfinished(calls.map((call) => call.join(' '))), [], 'no command needs what an earlier one has only begun')
    }
  })
}

t.test('the rules find commands that do not wait', async (t) => {
  for (const [commands, what] of [
    [['scale deployment/sluice-api --replicas=0', 'exec sluice-postgres-0 -- psql'], /its pods have not ended/],
    [['rollout restart deployment/sluice-api'], /is not complete/],
    [['create job x --from=cronjob/y', 'logs job/x'], /the Job has not ended/],
    [['create -f -', 'logs -f job/x'], /the Job has not ended/],
    [['apply -k k8s/overlays/k3s'], /the Jobs and pods are not ready/],
    [['delete statefulset sluice-postgres', 'delete pvc data-sluice-postgres-0'], /its pod has not ended/],
  ] as const)
    t.match(unfinished(commands.map((command) => `kubectl -n sluice ${command}`)), [what], commands.join('; '))
})

function unfinished(all: string[]): string[] {
  // These change nothing. In a pipeline they run at the same time as the command that does.
  const calls = all.filter((call) => !/--dry-run=client|patch --local/.test(call))
  return RULES.flatMap(({ command, until, next, lacks }) =>
    calls.flatMap((call, at) => {
      if (!call.startsWith('kubectl ') || !command.test(call)) return []
      const after = calls.slice(at + 1, next ? at + 2 : undefined)
      return after.some((one) => until.test(one)) ? [] : [`after "${call}": ${lacks}`]
    }),
  )
}

/** What the real kubectl says about the flags and arguments of a call; empty if nothing. */
function complaintAbout(call: string[]): string {
  if (call[0] !== 'kubectl') return ''
  const key = JSON.stringify(call)
  if (!checked.has(key)) {
    const end = call.includes('--') ? call.indexOf('--') : call.length
    // With --help, kubectl reads the flags, and does nothing.
    const { status, stderr } = spawnSync('kubectl', [...call.slice(1, end), '--help'], { encoding: 'utf8' })
    checked.set(key, status === 0 ? '' : stderr)
  }
  return checked.get(key) as string
}

/** Between the arguments of a call in the log. */
const SEPARATOR = '\x1f'

/** Pastes a block twice. Returns the calls of the second time, each with its arguments. */
async function paste(t: Test, shell: string, text: string): Promise<string[][]> {
  const home = t.testdir({ bin: {}, scripts: {}, src: {}, calls: '', 'sluice.dump': '' })
  const log = join(home, 'calls')
  spec ??= find(render('k3s'), 'CronJob', 'sluice-maintenance').spec.jobTemplate.spec
  writeFileSync(
    join(home, 'job.yaml'),
    stringify({ apiVersion: 'batch/v1', kind: 'Job', metadata: { name: 'j' }, spec }),
  )
  const real = execFileSync('sh', ['-c', 'command -v kubectl'], { encoding: 'utf8' }).trim()
  const make = (path: string, body = '') =>
    writeFileSync(
      join(home, path),
      // bash writes each line at once, and the commands of a pipeline run at the same time. "$*" joins with the first character of IFS.
      `#!/usr/bin/env bash
      (IFS=$'${SEPARATOR}'; set -- "${path.replace('bin/', '')}" "$@"; echo "$*" >>${log})
      ${body}`,
      { mode: 0o755 },
    )
  for (const program of ['curl', 'docker', 'git', 'npm', 'sops', 'sudo']) make(`bin/${program}`)
  make('src/sluice.js')
  for (const script of ['deploy', 'restore', 'secrets']) make(`scripts/${script}.sh`)
  make(
    'bin/kubectl',
    `case "$*" in
      'patch --local '*) exec ${real} "$@" ;;
      *--dry-run=client*) cat ${home}/job.yaml ;;
      *port-forward*) echo $$ >>${home}/forwarding; exec sleep 600 ;;
      'create -f -') cat >${home}/created ;;
      *' -i '* | *'create secret'*) cat >/dev/null ;;
      *'get secret'*) printf '%s' c2VjcmV0 ;;
    esac`,
  )
  mkdirSync(join(home, 'home'))
  for (let times = 1; times <= 2; times++) {
    writeFileSync(log, '')
    const { status, stderr } = spawnSync(shell, ['-c', text], {
      cwd: home,
      encoding: 'utf8',
      env: { PATH: `${home}/bin:${process.env.PATH}`, HOME: `${home}/home` },
      // With a socket as its standard input, bash would read ~/.bashrc.
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 60_000,
    })
    t.equal(status, 0, `${shell}, time ${times}: ${stderr}`)
    t.equal(stderr, '')
  }
  for (const pid of readLines(join(home, 'forwarding'))) await until('the port-forward to end', () => !isRunning(pid))
  const created = readLines(join(home, 'created')).join('\n')
  if (created !== '') t.match(created, /args:\n +- maintain\n +- --dry-run\n/)
  return readLines(log).map((line) => line.split(SEPARATOR))
}

function readLines(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n').filter(Boolean)
  } catch {
    return []
  }
}

function isRunning(pid: string): boolean {
  return spawnSync('kill', ['-0', pid]).status === 0
}

function blocksOf(manual: string, file = '') {
  const found = manual.matchAll(/^```sh\n(.*?)^```$/gms)
  return [...found].map(([, text], at) => ({ name: `${file}, block ${at + 1}`, text: text as string }))
}

function isInstalled(shell: string): boolean {
  return spawnSync(shell, ['-c', 'true']).status === 0
}
