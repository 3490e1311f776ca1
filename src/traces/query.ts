import type { Attributes } from '@opentelemetry/api'
import {
  ATTR_DB_COLLECTION_NAME,
  ATTR_DB_NAMESPACE,
  ATTR_DB_OPERATION_NAME,
  ATTR_DB_RESPONSE_STATUS_CODE,
  ATTR_DB_SYSTEM_NAME,
  ATTR_ERROR_TYPE,
  ATTR_SERVER_ADDRESS,
  ATTR_SERVER_PORT,
} from '@opentelemetry/semantic-conventions'
import type { Query } from '../data/connect.ts'

/** A span's name and attributes for a statement: what it does, to which table, and where; never its text or its values. */
export function describeQuery({ sql, error, url }: Query): { name: string; attributes: Attributes } {
  const { hostname, port, pathname } = new URL(url)
  // What a statement does that begins WITH …, or SELECT …; COPY …, comes later in it.
  const operation = /\b(INSERT|UPDATE|DELETE|COPY)\b/i.exec(sql)?.[1] ?? /\w+/.exec(sql)?.[0] ?? ''
  const table = /\b(?:INTO|FROM|JOIN|UPDATE|COPY)\s+("?sluice"?\."?\w+"?)/i.exec(sql)?.[1]?.replaceAll('"', '')
  const summary = [operation.toUpperCase(), table].filter(Boolean).join(' ')
  const attributes: Attributes = {
    [ATTR_DB_SYSTEM_NAME]: 'postgresql',
    [ATTR_DB_NAMESPACE]: decodeURIComponent(pathname.slice(1)),
    [ATTR_DB_OPERATION_NAME]: operation.toUpperCase(),
    [ATTR_DB_COLLECTION_NAME]: table,
    [ATTR_SERVER_ADDRESS]: hostname,
    [ATTR_SERVER_PORT]: Number(port || 5432),
  }
  if (error === undefined) return { name: summary, attributes }
  const { code } = error as { code?: unknown }
  // Five characters: an SQLSTATE, from the server. Anything else is of the network or of ours.
  const isSqlstate = typeof code === 'string' && /^[\dA-Z]{5}$/.test(code)
  attributes[ATTR_ERROR_TYPE] = typeof code === 'string' ? code : (error as Error).name
  if (isSqlstate) attributes[ATTR_DB_RESPONSE_STATUS_CODE] = code
  return { name: summary, attributes }
}
