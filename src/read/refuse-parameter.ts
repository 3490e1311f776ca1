import { Problem, type ProblemCode } from '../problems.ts'

/** @param why completes a sentence that begins with the name of the parameter. @throws Problem */
export function refuseParameter(name: string, why: string, code?: ProblemCode): never {
  throw invalidParameter(name, `${name} ${why.replace(/\.$/, '')}.`, code)
}

export const invalidParameter = (name: string, detail: string, code: ProblemCode = 'invalid_query'): Problem =>
  new Problem(code, detail, { errors: [{ pointer: name, code, detail }] })
