import { readFileSync } from 'node:fs'
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
import type { Config } from '../config.ts'
import { Traces } from './traces.ts'

/** How long the end of the process waits for the last spans to be sent. */
const CLOSE_MS = 3_000
/** A collector that is away fails every batch; that is told so often. */
const TELL_EVERY_MS = 10_000

export interface OpenTraces {
  traces: Traces
  /** Sends what was not sent yet; gives up after a moment. */
  close(): Promise<void>
}

/**
 * Sends spans to a collector, in batches and beside the requests: what cannot be sent is dropped, and no request waits
 * for it. The rest of the standard variables (where to, headers, TLS, the resource) the SDK itself reads from the
 * environment: the one exception to config.ts.
 * @param tell logs what goes wrong
 */
export function openTraces(
  config: Config,
  tell: (problem: Record<string, unknown>, message: string) => void,
): OpenTraces {
  tellFailures(tell)
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  const provider = new TracerProvider({
    resource: defaultResource()
      .merge(resourceFromAttributes({ [ATTR_SERVICE_NAME]: 'sluice', [ATTR_SERVICE_VERSION]: version }))
      .merge(detectResources({ detectors: [envDetector] })),
    sampler: samplerOf(config),
    // A flush is linked to each of its requests, which have a row at least; the default would drop those after the 128th.
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
    traces: new Traces(provider.getTracer('sluice', version)),
    async close() {
      const sent = provider.shutdown().catch((err) => tell({ err }, 'the last traces could not be sent'))
      await Promise.race([sent, sleep(CLOSE_MS, undefined, { ref: false })])
    },
  }
}

/** OTEL_TRACES_SAMPLER, as the specification names them. */
function samplerOf({ OTEL_TRACES_SAMPLER: name, OTEL_TRACES_SAMPLER_ARG: ratio }: Config): Sampler {
  const roots: Record<string, () => Sampler> = {
    always_on: () => new AlwaysOnSampler(),
    always_off: () => new AlwaysOffSampler(),
    traceidratio: () => new TraceIdRatioBasedSampler(ratio),
  }
  const root = (roots[name.replace('parentbased_', '')] as () => Sampler)()
  return name.startsWith('parentbased_') ? new ParentBasedSampler({ root }) : root
}

function tellFailures(tell: (problem: Record<string, unknown>, message: string) => void): void {
  let toldAt = Number.NEGATIVE_INFINITY
  let suppressed = 0
  const tellSometimes = (problem: Record<string, unknown>, message: string) => {
    if (performance.now() - toldAt < TELL_EVERY_MS) return void suppressed++
    tell({ ...problem, ...(suppressed > 0 ? { suppressed } : {}) }, message)
    toldAt = performance.now()
    suppressed = 0
  }
  setGlobalErrorHandler((err) => tellSometimes({ err }, 'traces could not be sent'))
  const warn: DiagLogFunction = (message) => tellSometimes({}, `OpenTelemetry: ${message}`)
  const ignore: DiagLogFunction = () => {}
  diag.setLogger({ error: warn, warn, info: ignore, debug: ignore, verbose: ignore }, DiagLogLevel.WARN)
}
