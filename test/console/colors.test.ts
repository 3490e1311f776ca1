import { readFile } from 'node:fs/promises'
import t from 'tap'

const css = await readFile(new URL('../../src/console/colors.css', import.meta.url), 'utf8')

t.test('the contrast is as colors.css says, in light and dark', async (t) => {
  const schemes = css.split('@media')
  t.equal(schemes.length, 2)
  for (const [index, scheme] of schemes.entries()) {
    const colors = Object.fromEntries(
      [...scheme.matchAll(/--([\w-]+): (#\w+);/g)].map(([, name, color]) => [name, color]),
    )
    const has = (least: number, name: string, background: string) => {
      const found = contrast(String(colors[name]), String(colors[background]))
      t.ok(found >= least, `${['light', 'dark'][index]}: ${name} on ${background} has ${found.toFixed(2)}`)
    }
    for (const background of ['page', 'panel'])
      for (const name of ['text', 'quiet', 'link', 'ok', 'warning', 'critical']) has(4.5, name, background)
    has(4.5, 'on-link', 'link')
    for (let line = 0; line < 8; line++) has(3, `plot-${line}`, 'page')
  }
})

/** https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio */
function contrast(one: string, other: string): number {
  const [darker = 0, lighter = 0] = [luminance(one), luminance(other)].toSorted((a, b) => a - b)
  return (lighter + 0.05) / (darker + 0.05)
}

/** https://www.w3.org/TR/WCAG22/#dfn-relative-luminance @param color #rgb or #rrggbb */
function luminance(color: string): number {
  const digits = color.length === 4 ? color.replaceAll(/[^#]/g, '$&$&') : color
  const [red = Number.NaN, green = Number.NaN, blue = Number.NaN] = [1, 3, 5].map((at) => {
    const share = Number.parseInt(digits.slice(at, at + 2), 16) / 255
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue
}
