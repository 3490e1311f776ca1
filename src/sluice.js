#!/usr/bin/env node
// The program `sluice`, from any folder and through any link. It is JavaScript, so that an old Node.js can run it: that cannot load
// the TypeScript of the rest, so the Node.js that "npm ci" installed takes over.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const MAIN = new URL('main.ts', import.meta.url)
const INSTALLED = fileURLToPath(new URL('../node_modules/node/bin/node', import.meta.url))
const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2']

const [major, minor] = process.versions.node.split('.').map(Number)
if (major > 24 || (major === 24 && minor >= 12)) {
  if (isInstalled()) await import('./main.ts')
  else refuse('its dependencies are not installed. Run "npm ci" in the folder of Sluice.')
} else if (existsSync(INSTALLED)) runWith(INSTALLED)
else {
  refuse(
    `Sluice needs Node.js 24.12 or later, but this is Node.js ${process.versions.node}. "npm ci" in the folder of Sluice installs it, unless development dependencies are omitted.`,
  )
}

function refuse(message) {
  console.error(`sluice: ${message}`)
  process.exitCode = 1
}

function isInstalled() {
  try {
    import.meta.resolve('commander')
    return true
  } catch {
    return false
  }
}

/** Runs the program with this Node.js, and ends as it ends. */
function runWith(node) {
  const args = [...process.execArgv, fileURLToPath(MAIN), ...process.argv.slice(2)]
  const child = spawn(node, args, { stdio: 'inherit' })
  for (const signal of FORWARDED) process.on(signal, () => child.kill(signal))
  child.on('error', (error) => {
    refuse(`${node} cannot be started: ${error.message}.`)
  })
  child.on('exit', (code, signal) => {
    process.exitCode = code ?? 1
    if (signal === null) return
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  })
}
