import { quoted } from '../lib/quoted.ts'

const SIMPLE = /^[^\p{C}]{1,60}$/u

/** A field for a message: as it is written, unless it is long or a terminal would interpret it. */
export const shownField = (name: string): string => (SIMPLE.test(name) ? name : quoted(name))

/**
 * What was meant by a field that is written as in another language: `$.total`, `data->>'total'`, `data/total`, `data.items[0]`.
 * @param written begins with the field; others may follow
 * @param roots the members of a record
 * @returns a sentence with a space before it; empty: it is not clear
 */
export function fieldHint(written: string, roots: readonly string[]): string {
  const [field = ''] = /^(?:"[^"]*"|'[^']*'|[^,"'])*/.exec(written) ?? []
  const meant = field
    .trim()
    .replaceAll(/\[\s*\*?\s*\]/g, '.0')
    .replaceAll(/\[\s*(\d+|"[^"]*"|'[^']*')\s*\]/g, '.$1')
    .replaceAll(/'([^'"\\]*)'/g, '"$1"')
    .replaceAll(/->>?|\//g, '.')
    .replaceAll(/\.{2,}/g, '.')
    .replace(/\.$/, '')
  const [, name = '', rest = ''] = /^(?:\$?\.|\$$)?([^.]*)(.*)$/s.exec(meant) ?? []
  const root = meant === '$' ? 'data' : roots.find((one) => plain(one) === plain(name))
  const path = root !== undefined ? `${root}${rest}` : `data.${name}${rest}`
  if (root === undefined && path === `data.${field.trim()}`) return ''
  return path !== undefined && path !== field && FIELD.test(path) && SIMPLE.test(path) ? ` Write ${path}.` : ''
}

const plain = (name: string) => name.replaceAll(/[_"]/g, '').toLowerCase()

const FIELD = /^(?:\w+|(?:data|extensions)(?:\.(?:"[^"]+"|[^.,"'[\]]+))+)$/
