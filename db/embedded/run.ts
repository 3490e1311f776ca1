import { spawn } from 'node:child_process'

/** The system user that a program runs as; undefined: the user of this process. */
export type SystemUser = { uid: number; gid: number } | undefined

/** Runs a program to its end. Never rejects: a program that cannot be started counts as failed. */
export function run(command: string, args: string[], user?: SystemUser): Promise<{ ok: boolean; output: string }> {
  return new Promise((resolve) => {
    let output = ''
    // cwd: the user may not be allowed to enter the current folder.
    const child = spawn(command, args, { ...user, cwd: '/', env: environment(), stdio: ['ignore', 'pipe', 'pipe'] })
    child.stdout.setEncoding('utf8').on('data', (text) => (output += text))
    child.stderr.setEncoding('utf8').on('data', (text) => (output += text))
    child.on('error', (error) => resolve({ ok: false, output: error.message }))
    child.on('close', (code) => resolve({ ok: code === 0, output: output.trim() }))
  })
}

// PGPORT, PGOPTIONS and the like from the user's shell must not reach this server. The language of the shell must not reach the
// log.
function environment() {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith('PG'))
  return { ...Object.fromEntries(kept), LC_ALL: 'C' }
}
