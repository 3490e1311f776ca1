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
import type { Query } from '../../postgres/connect.ts'

/** The span of a statement: a name and attributes with its operation, its table and the server; never its text or its values. */
export function describeQuery({ sql, error, url }: Query): { name: string; attributes: Attributes } {
  const { hostname, port, pathname } = new URL(url)
  // A statement that begins with WITH …, or with SELECT …; before COPY …, has its operation further on.
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
  // Five characters are an SQLSTATE from the server. Other codes come from the network or from our code.
  const isSqlstate = typeof code === 'string' && /^[\dA-Z]{5}$/.test(code)
  attributes[ATTR_ERROR_TYPE] = typeof code === 'string' ? code : (error as Error).name
  if (isSqlstate) attributes[ATTR_DB_RESPONSE_STATUS_CODE] = code
  return { name: summary, attributes }
}
