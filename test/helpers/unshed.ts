/**
 * Settings for every test server whose subject is not load shedding (plugins/shedding.ts) or a stall.
 * SHED_…: no event-loop delay is that high, so nothing is shed. Otherwise tests on a busy machine sometimes get 503 `overloaded`.
 * STALL_SECONDS: the maximum, so that a reader or a sender that a test leaves waiting is not cut off.
 */
export const UNSHED = { SHED_INGEST_SECONDS: '60', SHED_READ_SECONDS: '60', STALL_SECONDS: '60' }
