import { Problem, type ProblemCode } from '../problems.ts'

/** @param why completes a sentence that begins with the name of the parameter. @throws Problem */
export function refuseParameter(name: string, why: string, code: ProblemCode = 'invalid_query'): never {
  const detail = `${name} ${why.replace(/\.$/, '')}.`
  throw new Problem(code, detail, { errors: [{ pointer: name, code, detail }] })
}
