import { setTimeout as sleep } from 'node:timers/promises'
import { type DiagLogFunction, DiagLogLevel, diag } from '@opentelemetry/api'
import { setGlobalErrorHandler } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources'
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  type Sampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace'
import { ATTR_SERVICE_NAME, ATTR_SERVICE_VERSION } from '@opentelemetry/semantic-conventions'
import type { Config } from '../../config.ts'
import { VERSION } from '../../lib/version.ts'
import { Traces } from './traces.ts'

/** How long the process waits at its end until the last spans are sent. */
const CLOSE_MS = 3_000
/** While the collector is down, every batch fails. A failure is logged at most this often. */
const LOG_EVERY_MS = 10_000

interface OpenTraces {
  traces: Traces
  /** Sends the remaining spans; gives up after CLOSE_MS. */
  close(): Promise<void>
}

/**
 * Sends spans to a collector, in batches and in the background. Spans that cannot be sent are dropped, and no request waits for
 * them. The SDK itself reads the other standard variables (endpoint, headers, TLS, resource) from the environment: the only
 * exception to config.ts.
 * @param warn logs failures
 */
export function openTraces(
  config: Config,
  warn: (fields: Record<string, unknown>, message: string) => void,
): OpenTraces {
  logFailures(warn)
  const provider = new TracerProvider({
    resource: defaultResource()
      .merge(resourceFromAttributes({ [ATTR_SERVICE_NAME]: 'sluice', [ATTR_SERVICE_VERSION]: VERSION }))
      .merge(detectResources({ detectors: [envDetector] })),
    sampler: samplerOf(config),
    // A flush is linked to each of its requests, and has at least one row of each. The default limit drops links after the 128th.
    spanLimits: { linkCountLimit: Math.max(128, config.FLUSH_MAX_ROWS) },
    spanProcessors: [
      new BatchSpanProcessor({
        exporter: new OTLPTraceExporter(),
        scheduledDelayMillis: config.OTEL_BSP_SCHEDULE_DELAY,
        maxQueueSize: config.OTEL_BSP_MAX_QUEUE_SIZE,
        maxExportBatchSize: config.OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
        exportTimeoutMillis: config.OTEL_BSP_EXPORT_TIMEOUT,
      }),
    ],
  })
  return {
    traces: new Traces(provider.getTracer('sluice', VERSION)),
    async close() {
      const sent = provider.shutdown().catch((err) => warn({ err }, 'the last traces could not be sent'))
      await Promise.race([sent, sleep(CLOSE_MS, undefined, { ref: false })])
    },
  }
}

/** The samplers of OTEL_TRACES_SAMPLER, by their names in the specification. */
function samplerOf({ OTEL_TRACES_SAMPLER: name, OTEL_TRACES_SAMPLER_ARG: ratio }: Config): Sampler {
  const roots: Record<string, () => Sampler> = {
    always_on: () => new AlwaysOnSampler(),
    always_off: () => new AlwaysOffSampler(),
    traceidratio: () => new TraceIdRatioBasedSampler(ratio),
  }
  const root = (roots[name.replace('parentbased_', '')] as () => Sampler)()
  return name.startsWith('parentbased_') ? new ParentBasedSampler({ root }) : root
}

function logFailures(warn: (fields: Record<string, unknown>, message: string) => void): void {
  let loggedAt = Number.NEGATIVE_INFINITY
  let suppressed = 0
  const warnSometimes = (fields: Record<string, unknown>, message: string) => {
    if (performance.now() - loggedAt < LOG_EVERY_MS) return void suppressed++
    warn({ ...fields, ...(suppressed > 0 ? { suppressed } : {}) }, message)
    loggedAt = performance.now()
    suppressed = 0
  }
  setGlobalErrorHandler((err) => warnSometimes({ err }, 'traces could not be sent'))
  const log: DiagLogFunction = (message) => warnSometimes({}, `OpenTelemetry: ${message}`)
  const ignore: DiagLogFunction = () => {}
  diag.setLogger({ error: log, warn: log, info: ignore, debug: ignore, verbose: ignore }, DiagLogLevel.WARN)
}
