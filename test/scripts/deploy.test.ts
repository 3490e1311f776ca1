import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'

// kubectl, sops and curl are replaced by programs that log their calls and fail on demand. The tests check the order of the
// calls, where the secrets go, and how failures are reported. What happens in a cluster is not tested here.
const root = fileURLToPath(new URL('../../', import.meta.url))
const encrypted = readFileSync(join(root, 'test/fixtures/secret.sops.yaml'), 'utf8')

const tools = 'bash sh awk base64 cat cut date dirname env find git grep sed sleep sort tail uname'.split(' ')

const programs = {
  kubectl: `case "$*" in
    *' -o name') [[ $* == create* ]] || printf '%s\\n' deployment.apps/sluice-api job.batch/sluice-migration-1 \\
      networkpolicy.networking.k8s.io/default-deny job.batch/sluice-bootstrap-1 statefulset.apps/sluice-postgres ;;
    *'get secret'*) printf the-key | base64 ;;
    *port-forward*)
      echo $$ >"$0.forwarding"
      echo "\${FORWARD_SAYS:-Forwarding from 127.0.0.1:4321 -> 3000}"
      for ((i = 0; i < 600; i++)); do sleep 0.1 || exit; done ;;
    *'get pods --no-headers'*) printf '%s\\n' 'sluice-api-1 0/1 Running 3 1m' 'sluice-postgres-0 1/1 Running 0 1m' \\
      'sluice-migration-1-x 0/1 Completed 0 1m' ;;
  esac`,
  sops: 'echo the secret',
  // With HANG, it terminates the script, and then responds no more.
  curl: `[[ -z \${HANG:-} ]] || { kill -TERM $PPID; while kill -0 $PPID; do sleep 0.1; done 2>/dev/null; exit 1; }
    for last; do :; done; [[ $last == */sluice-deploy/* ]] && echo "{\\"id\\":\\"\${last##*/}\\"}" || echo '{}'`,
}

t.test('applies the namespace, the Secrets through a pipe and the overlay, waits, and stores a record', async (t) => {
  const { status, calls } = deploy(t)
  t.equal(status, 0)
  const changes = calls.filter((call) => /^kubectl (apply|-n sluice (rollout|wait))|^curl/.test(call))
  t.match(changes, [
    /^kubectl apply -k k8s\/overlays\/k3s -l app\.kubernetes\.io\/component=namespace$/,
    /^kubectl apply --server-side --force-conflicts -f - < 'the secret'$/,
    /^kubectl apply -k k8s\/overlays\/k3s$/,
    /rollout status .*statefulset\.apps\/sluice-postgres$/,
    /wait --for=condition=Complete .*job\.batch\/sluice-bootstrap-1$/,
    /wait --for=condition=Complete .*job\.batch\/sluice-migration-1$/,
    /rollout status .*deployment\.apps\/sluice-api$/,
    /^curl .*http:\/\/127\.0\.0\.1:4321\/v1\/records .*-d/,
    /^curl .*http:\/\/127\.0\.0\.1:4321\/v1\/records\/sluice-deploy\//,
  ])
})

t.test('passes no secret as an argument, writes none into a file, and prints none', async (t) => {
  const { calls, output, files } = deploy(t)
  for (const text of [...calls.map((call) => call.split(' < ')[0]), output, files]) {
    t.notMatch(text, /the secret|the-key/)
  }
  t.ok(
    calls.some((call) => /^curl .* < 'header = "Authorization: Bearer the-key"'$/.test(call)),
    'curl gets the key through a pipe',
  )
})

t.test('--dry-run shows the differences, and changes nothing', async (t) => {
  const { status, calls } = deploy(t, {}, 'k3s', '--dry-run')
  t.equal(status, 0)
  t.ok(calls.includes('kubectl diff -k k8s/overlays/k3s'))
  t.strictSame(
    calls.filter((call) => /apply|rollout|curl/.test(call)),
    [],
  )
})

t.test('--no-api deploys everything except the API, and stores no record, so that a restore can follow', async (t) => {
  const { status, calls } = deploy(t, {}, 'k3s', '--no-api')
  t.equal(status, 0)
  t.ok(calls.includes('kubectl apply -k k8s/overlays/k3s -l app.kubernetes.io/component!=api'))
  t.notOk(calls.includes('kubectl apply -k k8s/overlays/k3s'))
  t.ok(calls.includes('kubectl get -k k8s/overlays/k3s -l app.kubernetes.io/component!=api -o name'))
  t.notOk(calls.some((call) => call.startsWith('curl')))
})

t.test('differences are not a failure, but a kubectl diff that fails is one', async (t) => {
  t.equal(deploy(t, { FAIL: 'diff', CODE: '1' }).status, 0)
  t.equal(deploy(t, { FAIL: 'diff', CODE: '2' }).status, 1)
})

t.test('a rollout that fails is reported with events and logs, and the exit code is 1', async (t) => {
  const { status, calls, output } = deploy(t, { FAIL: 'rollout status.*deployment', CODE: '1' })
  t.equal(status, 1)
  t.ok(calls.some((call) => call.includes('get events --sort-by')))
  t.ok(
    calls.some((call) => call.includes('logs sluice-api-1 --all-containers')),
    'logs of the pod that is not ready',
  )
  t.notOk(
    calls.some((call) => call.includes('logs sluice-postgres-0')),
    'no logs of other pods',
  )
  t.match(output, /FAILED/)
})

t.test('a record that cannot be read back is a failure', async (t) => {
  t.equal(deploy(t, { FAIL: 'curl .*sluice-deploy/', CODE: '22' }).status, 22)
})

t.test('an unreachable Service is a failure, and the output of kubectl is reported', async (t) => {
  const reason = 'error: unable to forward port because pod is not running'
  const { status, output, calls } = deploy(t, { FORWARD_SAYS: reason })
  t.equal(status, 1)
  t.match(output, `the Service cannot be reached: ${reason}`)
  t.notOk(calls.some((call) => call.startsWith('curl')))
})

// The shell of the coprocess was killed, and kubectl went on.
t.test('the port-forward has ended when the script ends, however it ends', async (t) => {
  for (const [env, status] of [
    [{}, 0],
    [{ FAIL: 'curl .*sluice-deploy/', CODE: '22' }, 22],
    [{ FORWARD_SAYS: 'error: no pod is running' }, 1],
  ] as const) {
    const ran = deploy(t, env)
    t.equal(ran.status, status)
    t.ok(ran.forwarding, 'it was running')
    t.throws(() => process.kill(ran.forwarding as number, 0), { code: 'ESRCH' })
  }
})

t.test('the port-forward ends when the script is terminated', async (t) => {
  const { status, forwarding } = deploy(t, { HANG: '1' })
  t.not(status, 0)
  t.ok(forwarding, 'it was running')
  t.throws(() => process.kill(forwarding as number, 0), { code: 'ESRCH' })
})

for (const tool of ['kubectl', 'sops', 'curl']) {
  t.test(`without ${tool} it stops before it does anything`, async (t) => {
    const { status, calls, output } = deploy(t, { WITHOUT: tool })
    t.equal(status, 1)
    t.match(output, `${tool} is needed`)
    t.strictSame(calls, [])
  })
}

t.test('the example, Secrets that cannot be decrypted and unknown overlays are not deployed', async (t) => {
  t.match(deploy(t, { EXAMPLE: '1' }), { status: 1, output: /only the example\. Run scripts\/secrets\.sh init k3s/ })
  t.match(deploy(t, { FAIL: 'sops', CODE: '128' }), { status: 1, output: /no key that decrypts/ })
  t.match(deploy(t, {}, 'nowhere'), { status: 1, output: /there is no overlay/ })
  t.match(deploy(t, {}, '--help'), { status: 2, output: /scripts\/deploy\.sh OVERLAY \[--dry-run\] \[--no-api\]/ })
})

function deploy(t: Test, env: Record<string, string> = {}, ...args: string[]) {
  const home = t.testdir({ bin: {}, tmp: {} })
  for (const part of ['scripts/secrets.sh', 'scripts/deploy.sh', 'k8s']) {
    cpSync(join(root, part), join(home, 'repository', part), { recursive: true })
  }
  const file = join(home, 'repository/k8s/overlays/k3s/secrets.sops.yaml')
  if (!env.EXAMPLE) writeFileSync(file, encrypted)
  else writeFileSync(file, encrypted.replaceAll(/ENC\[.*?\]/g, ''))

  const log = join(home, 'calls')
  writeFileSync(log, '')
  const make = (name: string, text: string) => writeFileSync(join(home, 'bin', name), text, { mode: 0o755 })
  // A separate PATH, so that the programs of this machine do not replace missing ones.
  for (const tool of tools) {
    symlinkSync(execFileSync('sh', ['-c', `command -v ${tool}`], { encoding: 'utf8' }).trim(), join(home, 'bin', tool))
  }
  for (const [name, text] of Object.entries(programs)) {
    if (env.WITHOUT === name) continue
    const body = `#!/usr/bin/env bash
      input=; if [[ ! -t 0 && "$*" == *' -f -'* || "$*" == *'--config -'* ]]; then input=" < '$(cat)'"; fi
      printf '%s\\n' "${name} $*$input" >>${log}
      if [[ -n "\${FAIL:-}" && "${name} $*" =~ $FAIL ]]; then exit "$CODE"; fi
      ${text}`
    make(name, body)
  }
  mkdirSync(join(home, 'home'))
  const forwarding = join(home, 'bin/kubectl.forwarding')

  const result = spawnSync('scripts/deploy.sh', args.length > 0 ? args : ['k3s'], {
    cwd: join(home, 'repository'),
    encoding: 'utf8',
    env: { PATH: join(home, 'bin'), HOME: join(home, 'home'), TMPDIR: join(home, 'tmp'), ...env },
  })
  const files = spawnSync('grep', ['-rl', 'the secret', join(home, 'repository'), join(home, 'tmp')], {
    encoding: 'utf8',
  }).stdout
  return {
    status: result.status,
    output: result.stdout + result.stderr,
    files,
    calls: readFileSync(log, 'utf8').split('\n').filter(Boolean),
    /** The process id of `kubectl port-forward`; undefined if it did not run. */
    forwarding: existsSync(forwarding) ? Number(readFileSync(forwarding, 'utf8')) : undefined,
  }
}
