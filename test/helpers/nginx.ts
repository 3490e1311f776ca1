import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { until } from './until.ts'

/**
 * Starts nginx in front of a server, with the settings of Debian's nginx.conf that concern a proxy.
 * @param more further directives of the location
 * @returns its Unix socket
 */
export async function startNginx(t: Test, port: number, more = ''): Promise<string> {
  // Not t.testdir(): the path of a Unix socket has at most 107 bytes.
  const folder = await mkdtemp(join(tmpdir(), 'sluice-nginx-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${name};`)
  // Of the same user, so that it can use the folder. Without root, it ignores this line.
  const config = `user root root; pid pid; daemon off; worker_processes 1; error_log error.log; events {}
    http { access_log off; gzip on; sendfile on; tcp_nopush on; ${temporary.join(' ')}
      server { listen unix:${folder}/socket; location / { proxy_pass http://127.0.0.1:${port}; ${more} } } }`
  await writeFile(join(folder, 'nginx.conf'), config)
  const nginx = spawn('nginx', ['-p', folder, '-e', 'error.log', '-c', 'nginx.conf'], { stdio: 'ignore' })
  t.teardown(async () => {
    nginx.kill('SIGQUIT')
    if (nginx.exitCode === null) await once(nginx, 'exit')
  })
  const socket = join(folder, 'socket')
  await until('nginx to listen', () => {
    if (nginx.exitCode !== null) throw new Error(`nginx ended with ${nginx.exitCode}`)
    return existsSync(socket)
  })
  return socket
}
