import { POSTGRES_FAULTS } from '../../scripts/durability/faults/postgres.ts'
import { keepsPromises } from '../helpers/durability.ts'

await keepsPromises(POSTGRES_FAULTS)
