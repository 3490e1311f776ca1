/**
 * No event loop lags that much: nothing is shed, however busy the machine is. For every server whose subject is not
 * shedding (plugins/shedding.ts); else a file that runs beside others fails with `503 overloaded` now and then.
 */
export const UNSHED = { SHED_INGEST_SECONDS: '60', SHED_READ_SECONDS: '60' }
