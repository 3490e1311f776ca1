import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Manifest, podsOf, readManifests, render, variants } from '../helpers/kustomize.ts'
import { missing } from '../helpers/skipping.ts'

const SAYS = {
  psql: 'psql: error: connection to server at "sluice-postgres" (10.0.0.1), port 5432 failed: Connection refused\\n\\tIs C:\\\\x running?',
  pg_isready: 'sluice-postgres:5432 - no response',
}

// Runs the command of each container `wait` as its pod does, with a stand-in for the only program that it asks. The program fails as
// often as the test wants, with the text that the real one prints.
for (const [file, program] of [
  ['k8s/base/migration.yaml', 'psql'],
  ['k8s/components/postgres/bootstrap.yaml', 'pg_isready'],
] as const) {
  const containers = readManifests(file)[0].spec.template.spec.initContainers
  const { command } = containers.find(({ name }: Manifest) => name === 'wait')

  t.test(`${file}: the wait ends when PostgreSQL is available, and writes nothing`, async (t) => {
    t.match(run(t, command, program, 2), { status: 0, output: '' })
  })

  t.test(`${file}: it ends after ten minutes, with a line of JSON`, async (t) => {
    // bash counts from the value that it finds in the environment.
    const { status, output } = run(t, command, program, 1000, { SECONDS: '600' })
    t.equal(status, 1)
    const { level, msg } = JSON.parse(output)
    t.equal(level, 'error')
    t.match(msg, /for 10 minutes/)
    if (program === 'psql') t.match(msg, /"?postgres"?.* failed: Connection refused/)
  })
}

t.test(
  'every container of a Job that runs sluice tries to connect for a minute',
  { skip: missing('kubectl') },
  async (t) => {
    for (const variant of variants) {
      const jobs = podsOf(render(variant)).filter(({ kind }) => kind === 'Job' || kind === 'CronJob')
      t.ok(jobs.length > 1)
      for (const { of, containers } of jobs) {
        for (const { image, name, env = [] } of containers.filter(({ image }) => /\/sluice:/.test(image)))
          t.match(
            env.find((one: Manifest) => one.name === 'CONNECT_WAIT_SECONDS')?.value,
            '60',
            `${image} ${of}: ${name}`,
          )
      }
    }
  },
)

function run(t: Test, command: string[], program: keyof typeof SAYS, failures: number, env = {}) {
  const bin = t.testdir({ calls: '' })
  const real = `[[ " $* " == *' --quiet '* && ${program} == pg_isready ]] || printf '${SAYS[program]}\\n' >&2; exit 2`
  const text = `echo >>${bin}/calls; [[ $(wc -l <${bin}/calls) -gt ${failures} ]] || { ${real}; }`
  writeFileSync(join(bin, program), `#!/usr/bin/env bash\n${text}\n`, { mode: 0o755 })
  writeFileSync(join(bin, 'sleep'), '#!/bin/sh\n', { mode: 0o755 })
  const [shell, ...args] = command as [string, ...string[]]
  const { status, stdout, stderr } = spawnSync(shell, args, {
    encoding: 'utf8',
    timeout: 60_000,
    // With a socket as its standard input, bash would read ~/.bashrc.
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: `${bin}:${process.env.PATH}`, DATABASE_URL: 'postgres://sluice_owner@sluice-postgres/sluice', ...env },
  })
  return { status, output: stdout + stderr }
}
