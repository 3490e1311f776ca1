import type { Row } from '../../src/postgres/row.ts'

/** A row like those from src/ingest/envelope.ts. Fields that are not given have a default or are null. */
export const makeRow = (fields: Partial<Row> = {}): Row => ({
  source: 'shop',
  id: '1',
  type: 'order.placed',
  subject: null,
  time: null,
  dataschema: null,
  datacontenttype: null,
  extensions: null,
  data: '{}',
  dataBase64: null,
  ...fields,
})
