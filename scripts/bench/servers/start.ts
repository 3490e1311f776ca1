import { readFile } from 'node:fs/promises'
import type { BenchDatabase } from '../database.ts'
import { type Child, start } from '../processes.ts'

export type ServerName = 'limit' | 'naive' | 'ours' | 'unobserved'

export interface Server {
  child: Child
  port: number
}

export async function startServer(
  name: ServerName,
  { apiUrl, ownerUrl }: BenchDatabase,
  profile?: string,
  settings: Record<string, string> = {},
): Promise<Server> {
  const execArgv = name === 'ours' || name === 'unobserved' ? await readStartFlags() : []
  if (name === 'ours' && profile !== undefined) execArgv.push('--cpu-prof', `--cpu-prof-dir=${profile}`)
  const child = await start(`servers/${name}.ts`, {
    env: { DATABASE_URL: name === 'naive' ? ownerUrl : apiUrl, ...settings },
    execArgv,
  })
  return { child, port: child.ready as number }
}

/** The flags of Node.js in `npm start`, so that Sluice is measured as it runs in production. */
async function readStartFlags(): Promise<string[]> {
  const { scripts } = JSON.parse(await readFile(new URL('../../../package.json', import.meta.url), 'utf8'))
  const [, flags] = /^node ((?:--\S+ )*)src\/sluice\.js\b/.exec(scripts.start) ?? []
  if (flags === undefined) throw new Error(`"npm start" is not "node" with flags and src/sluice.js: ${scripts.start}`)
  return flags.split(' ').filter((flag) => flag !== '')
}
