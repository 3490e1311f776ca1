import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { openSync } from 'node:fs'
import { chmod, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { adapt, file, repository } from '../helpers/operator-manual.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { missing } from '../helpers/skipping.ts'
import { until } from '../helpers/until.ts'

const CONFIG = '/etc/logrotate.d/sluice'
/** Not on the PATH of every user. */
const LOGROTATE = '/usr/sbin/logrotate'
const skip = missing(LOGROTATE)

t.test('logrotate, as the manual sets it up, rotates the log of a running server', { skip }, async (t) => {
  const folder = t.testdir()
  // logrotate refuses a folder that others can write to.
  await chmod(folder, 0o755)
  const log = join(folder, 'sluice.log')
  const config = join(folder, 'logrotate.conf')
  await writeFile(config, adapt(file(CONFIG), { '/var/log/sluice.log': log }), { mode: 0o644 })
  const { apiUrl } = await createDatabase(t)
  // As StandardOutput=append: opens it.
  const child = spawn(process.execPath, [join(repository, 'src/main.ts'), 'serve'], {
    env: { PATH: process.env.PATH, DATABASE_URL: apiUrl, PORT: '0', METRICS_PORT: '0', LOG_LEVEL: 'debug' },
    stdio: ['ignore', openSync(log, 'a'), 'inherit'],
  })
  t.teardown(() => void child.kill('SIGKILL'))
  const ask = async () => {
    const id = crypto.randomUUID()
    await fetch(`${url}/healthz`, { headers: { 'x-request-id': id } })
    await until('the request in the log', async () => (await lines(log)).some((line) => line.includes(id)))
  }
  const url = await until(
    'the server to listen',
    async () => /http:\/\/127[\d.:]+(?=")/.exec(await readFile(log, 'utf8'))?.[0],
  )

  await ask()
  for (let times = 1; times <= 2; times++) {
    const before = await lines(log)
    const { status, stderr } = spawnSync(LOGROTATE, ['--force', '--state', join(folder, 'state'), config], {
      encoding: 'utf8',
    })
    t.match({ status, stderr }, { status: 0, stderr: '' })
    t.same(await lines(`${log}.1`), before, 'the old lines are in the old file')
    t.equal((await stat(log)).size, 0)
    await ask()
    const [first = ''] = await lines(log)
    t.equal(first[0], '{', 'the file begins with a line, without a gap')
    for (const line of await lines(log)) JSON.parse(line)
  }
  child.kill('SIGHUP')
  t.same(await once(child, 'exit'), [null, 'SIGHUP'], 'the signal of other programs for rotation ends this one')
})

const lines = async (path: string) => (await readFile(path, 'utf8')).split('\n').filter((line) => line !== '')
