import type { FastifyInstance } from 'fastify'
import type { Consumer } from '../feed/consumers.ts'
import { Problem } from '../problems.ts'
import { CONSUMER_NAME, CONSUMER_NAME_RULE } from '../schemas/consumer-name.ts'

type Paths = Pick<FastifyInstance, 'pathPrefix'>

/** @throws Problem invalid_request */
export function checkName(name: string): string {
  if (CONSUMER_NAME.test(name)) return name
  const detail = `The name of a consumer ${CONSUMER_NAME_RULE}.`
  throw new Problem('invalid_request', detail, { errors: [{ pointer: 'name', code: 'invalid_request', detail }] })
}

export const unknownConsumer = ({ pathPrefix }: Paths, name: string): Problem =>
  new Problem(
    'not_found',
    `${missing(name)} PUT ${pathPrefix}/v1/consumers/${name} with If-None-Match: * creates it, and GET ${pathPrefix}/v1/consumers lists all.`,
  )

/**
 * Why a consumer was not created.
 * @param existing the consumer with this name, which another request may have deleted since
 * @param isFull whether there are as many consumers as there may be
 */
export function notCreated(
  { pathPrefix }: Paths,
  name: string,
  existing: Consumer | undefined,
  isFull: boolean,
): Problem {
  if (existing !== undefined) return mismatch(existing, 'To change it, send If-Match with this ETag.')
  if (!isFull)
    return new Problem(
      'precondition_failed',
      `The consumer ${name} existed, and was deleted just now. Send this again.`,
    )
  const detail = `There are too many consumers. Delete one that nobody uses: GET ${pathPrefix}/v1/consumers lists all.`
  return new Problem('too_many_consumers', detail)
}

/** Why a consumer was not moved or deleted. @param existing the consumer with this name */
export function notMoved(name: string, existing: Consumer | undefined): Problem {
  if (existing === undefined) return new Problem('precondition_failed', `${missing(name)} If-None-Match: * creates it.`)
  const advice =
    'Somebody else has stored it, or your last request arrived and its response was lost. An ETag with W/ never matches.'
  return mismatch(existing, advice)
}

const missing = (name: string) => `There is no consumer ${name}.`

const mismatch = ({ document: { name, offset }, revision }: Consumer, advice: string): Problem =>
  new Problem(
    'precondition_failed',
    `The consumer ${name} has the offset ${offset} and the ETag "${revision}". ${advice}`,
  )
