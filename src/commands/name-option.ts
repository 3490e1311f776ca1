import { Refused } from '../client/server.ts'

/** The option of a query parameter: its name in kebab case. */
export const optionOf = (name: string) => `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`

/**
 * For the refusal of a request: rejects with the same error, whose message names the option instead of the parameter.
 * @param names of the parameters
 * @param others options with another name than their parameter
 */
export const nameOption =
  (names: readonly string[], others: Readonly<Record<string, string>>) =>
  (error: unknown): never => {
    if (!(error instanceof Refused)) throw error
    const name = names.find((one) => error.message.startsWith(`${one} `))
    if (name !== undefined) error.message = `${others[name] ?? optionOf(name)}${error.message.slice(name.length)}`
    throw error
  }
