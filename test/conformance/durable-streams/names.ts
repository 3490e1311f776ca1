import type { RunnerTestCase } from 'vitest'
import { EXCLUDED } from './excluded.ts'

/** The name of a test: its title, after the titles of the blocks around it. */
export const nameOf = (titles: string[]): string => titles.join(' > ')

/** The names of the tests of one group. */
export const namesIn = ({ tests }: (typeof EXCLUDED)[number]): string[] =>
  Object.entries(tests).flatMap(([block, titles]) => titles.map((title) => nameOf([block, title])))

/** Every excluded test, by its name. */
export const excludedNames = (): string[] => EXCLUDED.flatMap(namesIn)

/** The titles of a test that vitest is about to run. */
export function titlesOf(test: RunnerTestCase): string[] {
  const titles = [test.name]
  for (let block = test.suite; block !== undefined; block = block.suite) titles.unshift(block.name)
  return titles
}
