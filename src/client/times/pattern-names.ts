/** Other names of the formats, without spaces and signs. */
const NAMES: Record<string, string> = {
  iso: 'iso',
  iso8601: 'iso',
  rfc3339: 'iso',
  datetime: 'iso',
  unix: 'seconds',
  unixtime: 'seconds',
  epoch: 'seconds',
  timestamp: 'seconds',
  s: 'seconds',
  sec: 'seconds',
  second: 'seconds',
  ms: 'milliseconds',
  millis: 'milliseconds',
  millisecond: 'milliseconds',
  us: 'microseconds',
  micros: 'microseconds',
  microsecond: 'microseconds',
  ns: 'nanoseconds',
  nanos: 'nanoseconds',
  nanosecond: 'nanoseconds',
}

/** strftime, as in C, Python and Ruby. */
const PERCENT: Record<string, string> = {
  '%Y': 'YYYY', '%y': 'YY', '%m': 'MM', '%-m': 'M', '%d': 'DD', '%-d': 'D', '%e': 'D', '%b': 'MMM', '%B': 'MMMM', '%a': 'ddd',
  '%H': 'HH', '%-H': 'H', '%I': 'hh', '%-I': 'h', '%M': 'mm', '%S': 'ss', '%f': 'S', '%L': 'S', '%p': 'A', '%z': 'Z', '%Z': 'Z',
  '%F': 'YYYY-MM-DD', '%T': 'HH:mm:ss', '%R': 'HH:mm', '%D': 'MM/DD/YY',
} // biome-ignore format: a table

/** Java, .NET, Excel, Oracle and PostgreSQL. */
const LETTERS: readonly (readonly [RegExp, string])[] = [
  [/'([^']*)'/g, '[$1]'],
  [/HH24/gi, 'HH'],
  [/HH12/gi, 'hh'],
  [/MI/g, 'mm'],
  [/MONTH/gi, 'MMMM'],
  [/MON/gi, 'MMM'],
  [/(?<=H:?)MM/gi, 'mm'],
  [/(?<=mm:?)SS/gi, 'ss'],
  [/[yu]{4}|(?<![yu])[yu](?![yu])/gi, 'YYYY'],
  [/(?<![yu])yy(?![yu])/gi, 'YY'],
  [/E{1,3}/g, 'ddd'],
  [/(?<!d)dd(?!d)/g, 'DD'],
  [/(?<!d)d(?!d)/g, 'D'],
  [/(?<![A-Za-z])(?:AM|PM|a|tt)(?![A-Za-z])/gi, 'A'],
  [/(?<=[.,])[fFs]+/g, 'S'],
  [/[Xx]{1,3}|z{1,4}|TZH?|(?<![A-Za-z])O/g, 'Z'],
]

/** A name of a format, or a pattern, that another program's spelling probably means. It may be wrong. */
export function translateFormat(text: string): string {
  const name = NAMES[text.toLowerCase().replaceAll(/[^a-z\d]/g, '')]
  if (name !== undefined) return name
  if (text.includes('%')) return text.replaceAll(/%-?[A-Za-z]/g, (one) => PERCENT[one] ?? one)
  return LETTERS.reduce((pattern, [from, to]) => pattern.replaceAll(from, to), text)
}
