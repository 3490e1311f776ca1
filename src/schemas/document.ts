import { FORMATS, type TextFormat } from './formats.ts'

type Json = Record<string, unknown>

/**
 * The OpenAPI document in the words that other programs know: Sluice's own formats as far as JSON Schema can express them, and a
 * choice of texts as one `enum`, of which generators of clients make a type.
 */
export function toStandard(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(toStandard)
  if (typeof value !== 'object' || value === null) return value
  const object = Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, toStandard(inner)]))
  return withKnownFormat(withEnum(object))
}

function withKnownFormat({ format, ...rest }: Json): Json {
  if (format === undefined) return rest
  return typeof format === 'string' && format in FORMATS
    ? { ...rest, ...FORMATS[format as TextFormat].schema }
    : { ...rest, format }
}

function withEnum({ anyOf, ...rest }: Json): Json {
  if (!Array.isArray(anyOf)) return anyOf === undefined ? rest : { ...rest, anyOf }
  const choices = anyOf.map(({ const: only, enum: values, description }) => ({
    value: only ?? values?.[0],
    description,
  }))
  if (!choices.every(({ value }) => typeof value === 'string')) return { ...rest, anyOf }
  const meanings = choices.filter(({ description }) => description !== undefined)
  return {
    ...rest,
    type: 'string',
    enum: choices.map(({ value }) => value),
    ...(meanings.length > 0
      ? { description: meanings.map(({ value, description }) => `\`${value}\`: ${description}`).join('. ') }
      : {}),
  }
}
