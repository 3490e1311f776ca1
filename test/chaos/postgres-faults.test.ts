import { POSTGRES_FAULTS } from '../../scripts/durability/faults/postgres.ts'
import { testFaults } from '../helpers/durability.ts'

await testFaults(POSTGRES_FAULTS)
