import t from 'tap'
import { preferenceApplied, readPrefer } from '../../src/ingest/prefer.ts'

t.test('Prefer is read according to RFC 7240', (t) => {
  for (const [header, minimal, strict] of [
    [undefined, false, false],
    ['', false, false],
    ['return=minimal', true, false],
    ['handling=strict', false, true],
    ['handling=strict, return=minimal', true, true],
    ['return=minimal,handling=strict', true, true],
    ['Return = "minimal" ; x=y , HANDLING=strict', true, true],
    ['return=representation', false, false],
    ['handling=lenient', false, false],
    ['respond-async, wait=10, return=minimal', true, false],
    ['return', false, false],
    ['minimal', false, false],
    // Section 2: if a preference is repeated, the first one counts.
    ['return=representation, return=minimal', false, false],
    ['handling=strict, handling=lenient', false, true],
  ] as const) {
    t.same(readPrefer(header), { minimal, strict }, String(header))
  }
  t.end()
})

t.test('Preference-Applied lists the applied preferences, and is absent if there are none', (t) => {
  t.equal(preferenceApplied({ minimal: false, strict: false }), undefined)
  t.equal(preferenceApplied({ minimal: true, strict: false }), 'return=minimal')
  t.equal(preferenceApplied({ minimal: false, strict: true }), 'handling=strict')
  t.equal(preferenceApplied({ minimal: true, strict: true }), 'return=minimal, handling=strict')
  t.end()
})
