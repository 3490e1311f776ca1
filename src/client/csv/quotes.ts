const [QUOTE, RETURN] = [0x22, 0x0d]

/** What the quotes of a line say. */
interface Scan {
  /** Whether the line ends within a quoted cell. */
  isOpen: boolean
  /** Number of cells that end in the line, or begin in it. */
  cells: number
  /** Whether a cell without quotes contains one. It is text: RFC 4180 opens a cell only at its start. */
  hasStray: boolean
  /** Why the row of the line is rejected, as a sentence. */
  fault: string | undefined
}

const STRAY_LINE_END = 'Outside quotes, it contains a \\r or \\n that does not end lines in this file.'
const TEXT_AFTER_QUOTE = 'There is text after a closing quote. Within quotes, write a quote as "".'
const SPACE_BEFORE_QUOTE = 'There is white space between a delimiter and a quote. Remove it.'

/**
 * Follows the quotes of a line (RFC 4180, section 2). After a fault, any quote may be an opening or a closing one, so the line ends
 * within a cell if their number is odd.
 * @param isOpen whether the line begins within a quoted cell
 */
export function scanLine(line: Buffer, delimiter: Buffer, isOpen: boolean): Scan {
  const scan: Scan = { isOpen, cells: 1, hasStray: false, fault: undefined }
  /** Where the current cell begins; -1: in an earlier line. */
  let cell = isOpen ? -1 : 0
  for (let at = 0; ; ) {
    const quote = line.indexOf(QUOTE, at)
    if (!scan.isOpen) takeText(at, quote === -1 ? line.length : quote)
    if (quote === -1) return scan
    at = quote + 1
    if (scan.isOpen) {
      if (line[at] === QUOTE) at++
      else if (isEndOfCell(at)) scan.isOpen = false
      else return broken(TEXT_AFTER_QUOTE, at, false)
    } else if (quote === cell) scan.isOpen = true
    else if (line.toString('utf8', cell, quote).trim() === '') return broken(SPACE_BEFORE_QUOTE, at, true)
    else scan.hasStray = true
  }

  /** Counts the cells in text outside of quotes. */
  function takeText(from: number, to: number): void {
    for (let at = line.indexOf(delimiter, from); at !== -1 && at < to; at = line.indexOf(delimiter, cell)) {
      scan.cells++
      cell = at + delimiter.length
    }
    const end = line.subarray(from, to).indexOf(RETURN)
    if (end !== -1 && from + end < line.length - 1) scan.fault ??= STRAY_LINE_END
  }

  function isEndOfCell(at: number): boolean {
    if (at === line.length || (line[at] === RETURN && at === line.length - 1)) return true
    return line.subarray(at, at + delimiter.length).equals(delimiter)
  }

  function broken(fault: string, from: number, isOpenThere: boolean): Scan {
    return { ...scan, fault, isOpen: isOpenThere !== hasOddQuotes(line.subarray(from)) }
  }
}

export function hasOddQuotes(text: Buffer): boolean {
  let isOdd = false
  for (let at = text.indexOf(QUOTE); at !== -1; at = text.indexOf(QUOTE, at + 1)) isOdd = !isOdd
  return isOdd
}
