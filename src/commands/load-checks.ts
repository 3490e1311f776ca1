import { stat } from 'node:fs/promises'
import { setTimeout } from 'node:timers/promises'
import { checkInput, type FileFormatName, formatByName, type Input, openInput } from '../client/input.ts'
import { findKey } from '../client/key.ts'
import { shell, Unfit } from '../client/mapping.ts'
import { reasonsOf } from '../client/rejected-lines.ts'
import { checkReachable, type Server } from '../client/server.ts'
import { explain } from '../lib/explain.ts'
import { type RawOptions, readOptions } from './load-options.ts'

const SILENCE_MS = 1_000

interface Prepared {
  inputs: Input[]
  server: Server
  connections: number
}

/**
 * Finds everything that prevents a load before anything is sent, so that the user can correct all of it at once.
 * @param stop ends the reading of inputs
 * @throws Error with all of it
 */
export async function prepareLoad(names: string[], raw: RawOptions, stop: AbortSignal): Promise<Prepared> {
  const problems: string[] = []
  /** The options that would help against each problem of a file. */
  const suggestions: (readonly string[])[] = []
  const note = (error: unknown): undefined => {
    problems.push(explain(error))
    if (error instanceof Error && error.cause instanceof Unfit) suggestions.push(error.cause.options)
  }
  const { onlyCsv, connections, ...options } = await readOptions(raw, problems)
  const optionsAreRight = problems.length === 0
  const key = await findKey().catch(note)
  await checkReachable(raw.url).catch(note)
  const inputs = (await Promise.all(names.map((name) => openInput(name, options).catch(note)))).filter(isThere)
  await checkTogether(inputs, raw, onlyCsv, problems)
  // With other options, other problems would be found.
  if (optionsAreRight) {
    for (const input of inputs) {
      const checked = checkInput(input, options, stop).catch(note)
      // A pipe may be silent for a long time. If something else is wrong already, do not wait for it.
      await (problems.length === 0
        ? checked
        : Promise.race([checked, setTimeout(SILENCE_MS, undefined, { ref: false })]))
    }
  }

  if (problems.length === 0 && key) return { inputs, server: { url: raw.url, token: key.token }, connections }
  // Options are for all files. They are not right if they do not help against everything, or differ.
  const [suggested = []] = new Set(suggestions.map((options) => options.join('\0'))).size === 1 ? suggestions : []
  const helps = suggested.length > 0 && suggestions.length === problems.length
  const command = helps ? `\nTo try again: ${commandWith(suggested)}` : ''
  if (problems.length === 1) throw new Error(`${problems[0]}${command}`)
  throw new Error(`nothing was loaded, because:\n${problems.map((problem) => `- ${problem}`).join('\n')}${command}`)
}

const isThere = (input: Input | undefined) => input !== undefined

/** Checks what only all files and options together show. */
async function checkTogether(
  inputs: readonly Input[],
  raw: RawOptions,
  onlyCsv: readonly string[],
  problems: string[],
): Promise<void> {
  const { rejected } = raw
  const formats = new Set(inputs.map(({ formatName }) => formatName))
  const hasCsv = formats.has('csv') || formats.has('tsv')
  if (!hasCsv && inputs.length > 0 && onlyCsv.length > 0)
    problems.push(
      `${onlyCsv.join(' and ')} ${onlyCsv.length === 1 ? 'is' : 'are'} for CSV, but no file is CSV. See --format`,
    )
  if (inputs.filter(({ stats }) => stats === undefined).length > 1) problems.push('- can be loaded only once')
  if (rejected === undefined) return
  if (inputs.length > 1 && (formats.size > 1 || hasCsv))
    problems.push('--rejected can only contain lines of one format and with one CSV header. Load the files one by one')
  const other = await otherFormat(rejected, inputs[0]?.formatName, raw)
  if (other !== undefined) problems.push(other)
  for (const path of [rejected, reasonsOf(rejected)]) {
    const there = await stat(path).catch(() => undefined)
    const same = inputs.find(
      ({ stats }) => there?.ino === stats?.ino && there?.dev === stats?.dev && stats !== undefined,
    )
    if (same !== undefined) problems.push(`--rejected would overwrite ${same.name}, which is an input`)
  }
}

/** A file of rejected lines is loaded again with the same options, so its name must say the same format as that of the input. */
async function otherFormat(
  rejected: string,
  format: FileFormatName | undefined,
  raw: RawOptions,
): Promise<string | undefined> {
  if (format === undefined || raw.format !== undefined) return undefined
  const kind = (name: FileFormatName) =>
    name === 'json' || name === 'ndjson' ? 'ndjson' : raw.delimiter === undefined ? name : 'csv'
  const there = await stat(rejected).catch(() => undefined)
  const isDevice = there?.isFile() === false
  if (isDevice || kind(formatByName(rejected)) === kind(format)) return undefined
  return `--rejected ${shell(rejected)}: the lines are ${format}, so the name must end with .${format}; otherwise the file cannot be loaded again with the same options`
}

/** The command of the user, with more options. */
const commandWith = (options: readonly string[]) =>
  ['sluice', ...process.argv.slice(2), ...options].map(shell).join(' ')
