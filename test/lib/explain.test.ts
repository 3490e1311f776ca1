import { once } from 'node:events'
import { chmod, mkdir, open, readdir, readFile, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { connect } from 'node:tls'
import t from 'tap'
import { explain } from '../../src/lib/explain.ts'

const reason = (work: Promise<unknown>) => work.then(() => 'no error', explain)

t.test('an error of the operating system says what to do', async (t) => {
  const folder = t.testdir({ file: '', folder: {} })
  const file = join(folder, 'file')
  t.match(
    await reason(readFile(join(folder, 'none'))),
    /^ENOENT: .*\. There is no such file or folder: correct the path/,
  )
  t.match(await reason(readFile(folder)), /^EISDIR: .*\. It is a folder: specify a file$/)
  t.match(await reason(readdir(file)), /^ENOTDIR: .*\. A part of the path is a file/)
  t.match(await reason(mkdir(file)), /^EEXIST: .*\. It exists already: remove it, or choose another name$/)
  t.match(await reason(open('/proc/nothing', 'w')), /^(?:ENOENT|EACCES): .*\. [A-Z].*/)
  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
  t.match(explain(new Error('out.csv cannot be written', { cause: full })), /write\. The disk is full: free some space/)
})

t.test('a file that this user may not read says how to change that', async (t) => {
  if (process.getuid?.() === 0) return t.pass('root may read every file')
  const file = join(t.testdir({}), 'secret')
  await writeFile(file, '')
  await chmod(file, 0o000)
  t.match(await reason(readFile(file)), /^EACCES: .*\. This user may not access it: see its owner and mode with ls -ld/)
})

t.test('other errors, such as those of connections, get no such advice', (t) => {
  const refused = Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:1'), { code: 'ECONNREFUSED' })
  t.equal(explain(new Error('no connection', { cause: refused })), 'no connection: connect ECONNREFUSED 127.0.0.1:1')
  const socket = Object.assign(new Error('permission denied'), { code: 'EACCES' })
  t.equal(explain(socket), 'permission denied')
  t.end()
})

t.test('of an error of OpenSSL, only the reason is shown', async (t) => {
  const server = createServer((socket) =>
    socket.on('error', () => {}).once('data', () => socket.end('HTTP/1.1 400 Bad\r\n\r\n')),
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const [error] = await once(connect((server.address() as AddressInfo).port, '127.0.0.1'), 'error').catch((error) => [
    error,
  ])
  t.equal(
    explain(new Error('no connection', { cause: error })),
    'no connection: wrong version number (OpenSSL, SSL routines)',
  )
})
