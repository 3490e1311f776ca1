import type { Attack } from './attack.ts'
import {
  drippingUploads,
  emptyFrames,
  idleStreams,
  optionsBodies,
  shortMembers,
  tinyChunks,
  unknownPaths,
} from './bodies.ts'
import { abandonedScans, largePages, unreadExports } from './reads.ts'
import { pipelinedSingles, strictPairs } from './requests.ts'

export interface Flood {
  attack: Attack
  /** The flood reads large records, which are stored before it. */
  reads?: true
  /** The database is unavailable when the flood starts. The latencies are measured when it is available again. */
  outage?: true
}

/** In the order in which they run. */
export const FLOODS = {
  options: { attack: optionsBodies },
  'unknown-path': { attack: unknownPaths },
  'tiny-chunks': { attack: tinyChunks },
  drip: { attack: drippingUploads },
  'idle-streams': { attack: idleStreams },
  strict: { attack: strictPairs },
  scans: { attack: abandonedScans, reads: true },
  exports: { attack: unreadExports, reads: true },
  away: { attack: pipelinedSingles, outage: true },
  members: { attack: shortMembers },
  frames: { attack: emptyFrames },
  pages: { attack: largePages, reads: true },
} as const satisfies Record<string, Flood>

export type FloodName = keyof typeof FLOODS
