import t from 'tap'
import { CopyGate } from '../../src/data/copy-gate.ts'

/** How many rows, in flushes of 1,000, must be new before the gate opens. */
function rowsUntilOpen(gate: CopyGate): number {
  let rows = 0
  for (; !gate.opensFor(1000); rows += 1000) gate.inserted(1000, true)
  return rows
}

t.test('the gate opens after 10,000 new rows in a row', async (t) => {
  t.equal(rowsUntilOpen(new CopyGate()), 10_000)
})

t.test('a row that was not new, and a write that failed, close the gate', async (t) => {
  const gate = new CopyGate()
  for (const close of [() => gate.inserted(1000, false), () => gate.failed()]) {
    rowsUntilOpen(gate)
    close()
    t.equal(rowsUntilOpen(gate), 10_000)
  }
})

t.test('the gate stays closed for fewer than 16 rows', async (t) => {
  const gate = new CopyGate()
  rowsUntilOpen(gate)
  t.notOk(gate.opensFor(15))
  t.ok(gate.opensFor(16))
})

t.test('each COPY that fails doubles the number of new rows', async (t) => {
  const gate = new CopyGate()
  rowsUntilOpen(gate)
  for (const required of [20_000, 40_000]) {
    gate.copyFailed()
    gate.inserted(1000, false)
    t.equal(rowsUntilOpen(gate), required)
  }
})

t.test('rows that are copied lower the number again, but not below 10,000', async (t) => {
  const gate = new CopyGate()
  rowsUntilOpen(gate)
  gate.copyFailed()
  gate.inserted(1000, false)
  rowsUntilOpen(gate)
  gate.copied(4000)
  gate.failed()
  t.equal(rowsUntilOpen(gate), 16_000)
  gate.copied(50_000)
  gate.failed()
  t.equal(rowsUntilOpen(gate), 10_000)
})
