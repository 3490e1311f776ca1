/** The columns of records as text/csv; `data` and `extensions` are JSON. */
export const CSV_COLUMNS = [
  'source',
  'id',
  'type',
  'time',
  'subject',
  'dataschema',
  'datacontenttype',
  'extensions',
  'data',
  'data_base64',
  'receivedAt',
  'cursor',
] as const
