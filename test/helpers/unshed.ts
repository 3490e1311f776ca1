/**
 * STALL_SECONDS: the longest there is, so that a reader or a sender whom a test leaves waiting is not cut off meanwhile.
 * SHED_…: no event loop lags that much: nothing is shed, however busy the machine is. For every server whose subject is not
 * shedding (plugins/shedding.ts); else a file that runs beside others fails with `503 overloaded` now and then.
 */
export const UNSHED = { SHED_INGEST_SECONDS: '60', SHED_READ_SECONDS: '60', STALL_SECONDS: '60' }
