import { Gauge, type Registry } from 'prom-client'

/** Exports that are being sent. */
export const registerExportMetrics = (registry: Registry): Gauge =>
  new Gauge({ name: 'sluice_exports', help: 'Exports that are being sent.', registers: [registry] })
