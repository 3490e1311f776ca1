import { spawnSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const repository = fileURLToPath(new URL('../..', import.meta.url))
/** One line for each reason of each test file. It is a file, because each test file is a process. */
const list = new URL('../../.sluice/skipped.ndjson', import.meta.url)

/** How to get a program that some tests need. */
const SOURCES = {
  kubectl: 'https://kubernetes.io/docs/tasks/tools',
  promtool: 'part of https://prometheus.io/download',
  sops: 'https://getsops.io',
  'age-keygen': 'https://age-encryption.org, or the package age',
  shellcheck: 'https://www.shellcheck.net, or the package shellcheck',
  '/usr/sbin/syslog-ng': 'the package syslog-ng-core',
  '/usr/sbin/pgbouncer': 'the package pgbouncer',
  flock: 'the package util-linux',
  'pg_dump of PostgreSQL 18': 'the client programs of PostgreSQL 18; on Debian, .ci/postgres-client unpacks them',
  nginx: 'https://nginx.org, or the package nginx',
  caddy: 'https://caddyserver.com, or the package caddy',
  'systemd-analyze': 'the package systemd',
  '/usr/sbin/logrotate': 'the package logrotate',
  psql: 'the package postgresql-client',
  openssl: 'the package openssl',
  zstd: 'the package zstd',
  curl: 'the package curl',
  python3: 'the package python3',
  setpriv: 'the package util-linux',
  script: 'the package bsdutils or util-linux',
  chromium: 'the package chromium',
}

/** A program of which the list can say how to get it. */
type Program = keyof typeof SOURCES

interface Skipped {
  file: string
  reason: string
}

/** For `skip` of a test: false if the program is on the PATH, otherwise the reason. */
export const missing = (program: Program) => skipWithout(program, pathOf(program) !== '')

/** The path of a program; empty if it is missing. */
export const pathOf = (program: Program): string =>
  spawnSync('sh', ['-c', 'command -v "$0"', program], { encoding: 'utf8' }).stdout.trim()

/** The same for a program that was looked for in another way. */
export const skipWithout = (program: Program, isFound: boolean) => skipUnless(isFound, `${program} is missing`)

/** For `skip` of a test: false if it can run, otherwise the reason, which `npm test` shows at its end. */
export function skipUnless(canRun: boolean, reason: string): string | false {
  if (canRun) return false
  const skipped: Skipped = { file: relative(repository, process.argv[1] ?? ''), reason }
  mkdirSync(new URL('.', list), { recursive: true })
  appendFileSync(list, `${JSON.stringify(skipped)}\n`)
  return reason
}

/** Deletes the list of an earlier run. */
export const forgetSkipped = () => rmSync(list, { force: true })

/** Describes what this run has skipped; undefined if nothing. */
export function describeSkipped(): string | undefined {
  if (!existsSync(list)) return undefined
  const reasons = new Map<string, Set<string>>()
  for (const line of readFileSync(list, 'utf8').trim().split('\n')) {
    const { file, reason } = JSON.parse(line) as Skipped
    reasons.set(reason, (reasons.get(reason) ?? new Set()).add(file))
  }
  const paragraphs = [...reasons].map(([reason, files]) => {
    const source = SOURCES[reason.replace(/ is missing$/, '') as Program] as string | undefined
    const names = [...files].sort().map((file) => `    ${file}`)
    return [`  ${reason}${source === undefined ? '' : ` (${source})`}:`, ...names].join('\n')
  })
  return ['These test files skipped tests, because this machine lacks something:', ...paragraphs].join('\n')
}
