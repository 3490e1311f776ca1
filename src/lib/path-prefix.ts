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
