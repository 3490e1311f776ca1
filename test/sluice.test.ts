import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import packageJson from '../package.json' with { type: 'json' }

const run = promisify(execFile)
const SLUICE = fileURLToPath(new URL('../src/sluice.js', import.meta.url))

/** Arguments of Node.js with which it claims to be this version. */
const claiming = (version: string) => [
  '--import',
  `data:text/javascript,Object.defineProperty(process.versions, 'node', { value: '${version}' })`,
]

/**
 * A copy of the launcher in a folder of its own.
 * @param main code that runs instead of the program
 * @param installed whether "npm ci" installed a Node.js
 */
async function makeLauncher(t: Test, main: string, installed: boolean): Promise<string> {
  // Not below this repository, which has the dependencies.
  const folder = await mkdtemp(join(tmpdir(), 'launcher-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await mkdir(join(folder, 'src'))
  await writeFile(join(folder, 'package.json'), '{"type":"module"}')
  await copyFile(SLUICE, join(folder, 'src/sluice.js'))
  await writeFile(join(folder, 'src/main.ts'), main)
  if (installed) {
    await mkdir(join(folder, 'node_modules/node/bin'), { recursive: true })
    await symlink(process.execPath, join(folder, 'node_modules/node/bin/node'))
  }
  return join(folder, 'src/sluice.js')
}

t.test('without another Node.js, one that is too old gets one sentence on stderr and exit code 1', async (t) => {
  const launcher = await makeLauncher(t, '', false)
  for (const version of ['20.19.0', '22.18.0', '24.11.1']) {
    const failure = await run(process.execPath, [...claiming(version), launcher]).catch((error) => error)
    t.equal(failure.code, 1)
    t.equal(failure.stdout, '')
    t.match(
      failure.stderr,
      new RegExp(`^sluice: Sluice needs Node.js 24.12 or later, but this is Node.js ${version}\\..*\\n$`),
    )
  }
})

t.test('before "npm ci", it says to run that', async (t) => {
  const launcher = await makeLauncher(t, '', false)
  const failure = await run(process.execPath, [launcher, 'keys', 'list']).catch((error) => error)
  t.match(failure, { code: 1, stdout: '', stderr: /^sluice: its dependencies are not installed. Run "npm ci".*\n$/ })
})

for (const [script, main] of [
  ['start', 'src/sluice.js'],
  ['sluice', 'src/sluice.js'],
  ['demo', 'scripts/check-install.js'],
  ['bench', 'scripts/check-install.js'],
  ['durability', 'scripts/check-install.js'],
  ['test', 'scripts/check-install.js'],
  ['persistence', 'scripts/check-node.js'],
] as const) {
  t.test(`npm run ${script} begins with a file that an old Node.js can run`, async (t) => {
    const first = /(?:\.\/)?(\S+\.[jt]s)\b/.exec(packageJson.scripts[script])?.[1]
    t.equal(first, main)
    const failure = await run(process.execPath, [...claiming('20.19.0'), join(SLUICE, '../..', main), 'x'], {
      env: {},
    }).catch((error) => error)
    if (main !== 'src/sluice.js') t.match(failure, { code: 1, stdout: '', stderr: /^Sluice needs Node.js 24.12 .*\n$/ })
  })
}

t.test('the program runs on the Node.js versions that package.json allows', async (t) => {
  t.equal(packageJson.engines.node, '>=24.12')
  for (const version of ['24.12.0', '25.0.0', process.versions.node]) {
    const { stdout } = await run(process.execPath, [...claiming(version), SLUICE, '--version'])
    t.equal(stdout, `${packageJson.version}\n`)
  }
})

t.test('it runs from any folder, as a program and through a link', async (t) => {
  const folder = t.testdir({ link: t.fixture('symlink', SLUICE) })
  const env = { ...process.env, PATH: `${join(process.execPath, '..')}:${process.env.PATH}` }
  for (const program of [SLUICE, join(folder, 'link')]) {
    t.equal((await run(program, ['--version'], { cwd: folder, env })).stdout, `${packageJson.version}\n`, program)
  }
})

t.test('an old Node.js hands over to the installed one: arguments, input, output, folder, exit code', async (t) => {
  const main = `
    let text = ''
    for await (const chunk of process.stdin) text += chunk
    console.log(JSON.stringify([process.argv.slice(2), text, process.cwd(), process.execArgv.slice(-1)]))
    console.error('on stderr')
    process.exitCode = 7`
  const launcher = await makeLauncher(t, main, true)
  const cwd = t.testdir({})
  const flags = [...claiming('20.19.0'), '--max-old-space-size=99']
  const running = run(process.execPath, [...flags, launcher, 'a b', '--c'], { cwd })
  running.child.stdin?.end('input')
  const { code, stdout, stderr } = await running.catch((error) => error)
  t.equal(code, 7)
  t.equal(stderr, 'on stderr\n')
  t.same(JSON.parse(stdout), [['a b', '--c'], 'input', cwd, ['--max-old-space-size=99']])
})

t.test('an old Node.js forwards signals, and ends by the signal that ended the installed one', async (t) => {
  const main = `
    process.on('SIGUSR2', () => console.log('SIGUSR2'))
    process.on('SIGINT', () => process.exit(3))
    console.log('ready')
    setInterval(() => {}, 1000)`
  const launcher = await makeLauncher(t, main, true)
  for (const [signal, ending] of [
    ['SIGTERM', [null, 'SIGTERM']],
    ['SIGHUP', [null, 'SIGHUP']],
    ['SIGINT', [3, null]],
  ] as const) {
    const child = spawn(process.execPath, [...claiming('20.19.0'), launcher], { stdio: ['ignore', 'pipe', 'inherit'] })
    const exit = once(child, 'exit')
    t.equal(await nextText(child), 'ready\n')
    child.kill('SIGUSR2')
    t.equal(await nextText(child), 'SIGUSR2\n')
    child.kill(signal)
    t.same(await exit, ending)
  }
})

async function nextText(child: ChildProcess): Promise<string> {
  const [text] = await once(child.stdout as Readable, 'data')
  return String(text)
}
