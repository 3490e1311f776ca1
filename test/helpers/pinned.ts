import { readFileSync } from 'node:fs'
import { findPackageJSON } from 'node:module'
import type { Test } from 'tap'

const read = (path: string | undefined) => JSON.parse(readFileSync(path as string, 'utf8'))

/**
 * Checks that package.json pins a package, and packages that it depends on, to exactly the installed versions: undocumented parts
 * of these are used.
 */
export function checkPinned(t: Test, name: string, ofItsOwn: readonly string[] = []): void {
  const { dependencies, overrides } = read(findPackageJSON(import.meta.url))
  const path = findPackageJSON(name, import.meta.url) as string
  const { version, dependencies: needed } = read(path)
  t.equal(dependencies[name], version, `package.json pins ${name}, and ${version} is installed`)
  for (const own of ofItsOwn) {
    const { version } = read(findPackageJSON(own, path))
    t.equal(overrides[name][own], version, `package.json pins ${own} in ${name}, and ${version} is installed`)
    t.equal(needed[own], `^${version}`, `${name} asks for that version of ${own} or a later one`)
  }
}
