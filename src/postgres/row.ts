/** A record that is about to be stored. It is checked; its payload is still the text that was received. */
export interface Row {
  source: string
  id: string
  type: string
  subject: string | null
  /** In UTC, as parseTime() writes it; null: the client sent no time. */
  time: string | null
  dataschema: string | null
  datacontenttype: string | null
  /** A JSON object. */
  extensions: string | null
  /** JSON text. */
  data: string | null
  dataBase64: string | null
}

/** A sequence of rows: an array, or PackedRows. */
export interface Rows extends Iterable<Row> {
  readonly length: number
  slice(from: number, to: number): Rows
}
