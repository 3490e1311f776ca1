import type { Row } from '../../src/data/row.ts'

/** A row as the envelope makes it; what is not said is absent. */
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
