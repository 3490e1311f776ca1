/** Names and numbers as a table. */
export function toTable(lines: Record<string, number>): string {
  return Object.entries(lines)
    .map(([name, value]) => `${name.padEnd(10)}${value.toLocaleString('en').padStart(12)}`)
    .join('\n')
}
