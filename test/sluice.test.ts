import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import packageJson from '../package.json' with { type: 'json' }

const run = promisify(execFile)
const sluice = new URL('../src/sluice.js', import.meta.url)

const runAs = (version: string) =>
  run(process.execPath, [
    '--input-type=module',
    '--eval',
    `Object.defineProperty(process.versions, 'node', { value: '${version}' })
     process.argv.splice(1, 0, 'sluice')
     process.argv.push('--version')
     await import(${JSON.stringify(sluice.href)})`,
  ])

t.test('a Node.js version that is too old gets one sentence on stderr and exit code 1', async (t) => {
  for (const version of ['20.19.0', '22.18.0', '24.11.1']) {
    const failure = await runAs(version).catch((error) => error)
    t.equal(failure.code, 1)
    t.equal(failure.stdout, '')
    t.match(
      failure.stderr,
      new RegExp(`^sluice: Sluice needs Node.js 24.12 or later, but this is Node.js ${version}\\..*\\n$`),
    )
  }
})

t.test('the program runs on the Node.js versions that package.json allows', async (t) => {
  t.equal(packageJson.engines.node, '>=24.12')
  for (const version of ['24.12.0', '25.0.0']) t.equal((await runAs(version)).stdout, `${packageJson.version}\n`)
  t.equal((await run(process.execPath, [fileURLToPath(sluice), '--version'])).stdout, `${packageJson.version}\n`)
})
