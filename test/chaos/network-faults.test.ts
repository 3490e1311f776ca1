import { NETWORK_FAULTS } from '../../scripts/durability/faults/network.ts'
import { keepsPromises } from '../helpers/durability.ts'

await keepsPromises(NETWORK_FAULTS)
