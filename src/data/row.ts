/** A record on its way into the table `records`: checked, its payload still the text that was received. */
export interface Row {
  source: string
  id: string
  type: string
  subject: string | null
  /** In UTC, as parseTime() writes it; null when the client did not say. */
  time: string | null
  dataschema: string | null
  datacontenttype: string | null
  /** A JSON object. */
  extensions: string | null
  /** JSON text. */
  data: string | null
  dataBase64: string | null
}

/** Rows that go together: an array of them, or packed. */
export interface Rows extends Iterable<Row> {
  readonly length: number
  slice(from: number, to: number): Rows
}
