import type { Result } from './run.ts'

const COLUMNS: [title: string, cell: (result: Result) => string][] = [
  ['sent', ({ sent }) => count(sent)],
  ['acknowledged', ({ acknowledged }) => count(acknowledged)],
  ['rejected for their content', ({ refused }) => count(refused)],
  ['stored', ({ stored }) => count(stored)],
  ['written by COPY', ({ copied }) => count(copied)],
  ['COPYs interrupted', ({ copies_hit }) => count(copies_hit)],
  ['acknowledged, but missing', ({ missing }) => count(missing)],
  ['stored twice', ({ twice }) => count(twice)],
  ['altered', ({ altered }) => count(altered)],
  ['wrong responses', ({ wrong }) => count(wrong)],
  ['shown twice', ({ shown_twice }) => count(shown_twice)],
  ['never shown', ({ never_shown }) => count(never_shown)],
  ['wrong reads', ({ misread }) => count(misread)],
  [
    'failed requests',
    ({ errors, errors_allowed }) =>
      errors_allowed === undefined ? count(errors) : `${count(errors)} (at most ${count(errors_allowed)})`,
  ],
  ['longest pause', ({ longest_ms }) => seconds(longest_ms)],
  ['resumed after', ({ back_ms }) => (back_ms === undefined ? '' : seconds(back_ms))],
]

/** A table for a terminal, without notes. */
export function toTable(results: readonly Result[]): string {
  const titles = ['', ...COLUMNS.map(([title]) => title)]
  const lines = [titles, ...results.map((result) => [result.title, ...cellsOf(result)])]
  const widths = titles.map((_, column) => Math.max(...lines.map((cells) => (cells[column] as string).length)))
  return lines
    .map((cells) =>
      cells
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[0] as number) : cell.padStart(widths[column] as number),
        )
        .join('  '),
    )
    .join('\n')
}

/** The table for scripts/README.md. */
export function toMarkdown(results: readonly Result[]): string {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`
  return [
    line(['fault', ...COLUMNS.map(([title]) => title)]),
    line(['---', ...COLUMNS.map(() => '---:')]),
    ...results.map((result) => line([titleOf(result), ...cellsOf(result)])),
  ].join('\n')
}

const cellsOf = (result: Result) => COLUMNS.map(([, cell]) => cell(result))

const titleOf = ({ title, note }: Result) => (note === undefined ? title : `${title} (${note})`)

const count = (value: number) => value.toLocaleString('en')

const seconds = (milliseconds: number) => `${(milliseconds / 1000).toFixed(2)} s`
