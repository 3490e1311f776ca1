/** From an empty character to a full one, in eighths of a line. */
const BLOCKS = ' ▁▂▃▄▅▆▇█'

/**
 * A plot of columns. If there are more values than `width`, each column is the sum of several.
 * @param width of the plot, in characters
 * @param height in lines
 * @returns the lines, from the top, how many values a column is the sum of, and the value of the highest column
 */
export function plot(
  values: readonly number[],
  width: number,
  height: number,
): { lines: string[]; perColumn: number; highest: number } {
  const perColumn = Math.max(1, Math.ceil(values.length / width))
  const columns = Array.from({ length: Math.ceil(values.length / perColumn) }, (_, at) =>
    values.slice(at * perColumn, (at + 1) * perColumn).reduce((sum, value) => sum + value, 0),
  )
  const highest = Math.max(0, ...columns)
  // Whatever is above 0 is visible.
  const eighths = columns.map((value) => (value === 0 ? 0 : Math.max(1, Math.round((value / highest) * height * 8))))
  const lines = Array.from({ length: height }, (_, line) => {
    const below = (height - 1 - line) * 8
    return eighths.map((filled) => BLOCKS[Math.min(8, Math.max(0, filled - below))]).join('')
  })
  return { lines, perColumn, highest }
}
