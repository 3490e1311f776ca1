import { before } from './before.ts'

/**
 * Removes the prefix from the target of a request. A proxy may have done that already, so the target may be without it.
 * @param prefix such as `/ingest`
 */
export function removePrefix(prefix: string, target: string): string {
  if (!target.startsWith(prefix)) return target
  const rest = target.slice(prefix.length)
  if (rest === '' || rest.startsWith('?')) return `/${rest}`
  // Not `/ingestion`.
  return rest.startsWith('/') ? rest : target
}

/**
 * The path of a request as its client knows it. If the proxy has removed the prefix, this adds it again.
 * @param target of the request, before removePrefix
 */
export function publicPath(prefix = '', target: string): string {
  const path = before(target, '?')
  // A client may encode any character, as in /%69ngest. The target * has no path.
  const begin = path
    .slice(0, 3 * prefix.length)
    .replaceAll(/%([2-7][\da-f])/gi, (_, code) => String.fromCharCode(Number.parseInt(code, 16)))
  return begin.startsWith(prefix) || !path.startsWith('/') ? path : `${prefix}${path}`
}
