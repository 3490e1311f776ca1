import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const repository = fileURLToPath(new URL('../..', import.meta.url)).slice(0, -1)

/** The manual for operators without Kubernetes. Tests run its files and commands. */
export const manual = await readFile(join(repository, 'scripts/without-kubernetes.md'), 'utf8')

const LINUX = join(repository, 'scripts/linux')

/** Short files that the manual shows, by path: the first path in the paragraph before a block. */
const shown = [...manual.matchAll(/^((?:[^\n]+\n)+)\n```(?!sh\n|sql\n)\w+\n(.*?)^```$/gms)].map(
  ([, paragraph = '', text = '']) => [/`(\/(?:etc|usr\/local)\/[^`]+)`/.exec(paragraph)?.[1] ?? '', text] as const,
)

/** The files that the manual says to copy. */
const copied = (await readdir(LINUX, { recursive: true, withFileTypes: true }))
  .filter((entry) => entry.isFile())
  .map(({ parentPath, name }) => join(parentPath, name))

/** All configuration files, by their path on the server. */
const files = new Map([
  ...shown,
  ...(await Promise.all(copied.map(async (path) => [path.slice(LINUX.length), await readFile(path, 'utf8')] as const))),
])

/** The blocks of shell commands below a heading. */
export function commands(heading: string): string[] {
  const section = manual.slice(manual.indexOf(`## ${heading}`)).split('\n## ')[0] ?? ''
  const blocks = [...section.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, text]) => text as string)
  if (blocks.length === 0) throw new Error(`there are no commands below ${heading}`)
  return blocks
}

/** Replaces texts of the manual by those of the test. Throws if one does not occur. */
export function adapt(text: string, replacements: Record<string, string>): string {
  let adapted = text
  for (const [from, to] of Object.entries(replacements)) {
    if (!adapted.includes(from)) throw new Error(`${from} does not occur in: ${text}`)
    adapted = adapted.replaceAll(from, to)
  }
  return adapted
}

/** A configuration file. */
export function file(path: string): string {
  const text = files.get(path)
  if (text === undefined) throw new Error(`neither the manual nor scripts/linux has ${path}`)
  return text
}

/** Writes a file and the folders of its path. */
export async function put(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, text)
}

/** The files of systemd, by path. */
export const units = [...files.keys()].filter((path) => path.startsWith('/etc/systemd/'))
