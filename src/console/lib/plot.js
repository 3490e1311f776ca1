import { html } from '../lit-html/lit-html.js'
import { number } from './format.js'
import { formatTime, isUtc } from './times.js'
import { UPlot } from './uplot.js'

const HEIGHT = 240
/** Lines differ in their dashes too, for people who cannot tell these colours apart. colors.css has the colours. */
const DASHES = [[], [8, 4], [2, 3], [12, 3, 2, 3], [5, 5], [16, 4], [3, 6], [10, 2, 2, 2]]

/**
 * @typedef {object} PlotData
 * @property {number[]} starts of the buckets, in seconds since 1970, ascending
 * @property {{ label: string, values: (number | null)[] }[]} series a value for each bucket; null: not known yet
 * @property {string} unit of the values
 * @property {string} title what a screen reader says first
 */

/** A plot of lines over time: drag to zoom, double-click to see everything again, and point at it to read values. */
class Plot extends HTMLElement {
  /** @type {PlotData | undefined} */
  #data
  /** @type {uPlot | undefined} */
  #plot
  #shape = ''
  #resized = new ResizeObserver(() => this.#plot?.setSize({ width: this.clientWidth, height: HEIGHT }))
  #scheme = matchMedia('(prefers-color-scheme: dark)')
  #repaint = () => {
    this.#shape = ''
    this.#draw()
  }

  connectedCallback() {
    this.#resized.observe(this)
    this.#scheme.addEventListener('change', this.#repaint)
    this.#draw()
  }

  disconnectedCallback() {
    this.#resized.disconnect()
    this.#scheme.removeEventListener('change', this.#repaint)
    this.#plot?.destroy()
    this.#plot = undefined
    this.#shape = ''
  }

  /** @param {PlotData} data */
  set data(data) {
    this.#data = data
    this.#draw()
  }

  #draw() {
    const data = this.#data
    if (data === undefined || !this.isConnected) return
    const values = /** @type {uPlot.AlignedData} */ ([data.starts, ...data.series.map(({ values }) => values)])
    const shape = JSON.stringify([data.series.map(({ label }) => label), data.unit, isUtc()])
    if (this.#plot !== undefined && shape === this.#shape) {
      this.#update(this.#plot, values)
    } else {
      this.#plot?.destroy()
      this.#plot = new UPlot(this.#options(data), values, this)
      this.#shape = shape
    }
    this.setAttribute('role', 'img')
    this.setAttribute('aria-label', describe(data))
  }

  /**
   * Shows newer values, and leaves the plot zoomed if it is.
   * @param {uPlot} plot
   * @param {uPlot.AlignedData} values
   */
  #update(plot, values) {
    const { min, max } = plot.scales.x ?? {}
    const [before] = plot.data
    const isZoomed = min != null && max != null && (min > (before[0] ?? min) || max < (before.at(-1) ?? max))
    plot.setData(values, !isZoomed)
    if (isZoomed) plot.setScale('x', { min, max })
  }

  /** @param {PlotData} data */
  #options({ series, unit }) {
    const style = getComputedStyle(this)
    const color = (/** @type {string} */ name) => style.getPropertyValue(name).trim()
    const axis = {
      stroke: color('--text'),
      grid: { stroke: color('--line'), width: 1 },
      ticks: { stroke: color('--line'), width: 1 },
    }
    return /** @type {uPlot.Options} */ ({
      width: this.clientWidth || 600,
      height: HEIGHT,
      tzDate: (seconds) => (isUtc() ? UPlot.tzDate(new Date(seconds * 1000), 'Etc/UTC') : new Date(seconds * 1000)),
      cursor: { drag: { x: true, y: false } },
      scales: { y: { range: (_plot, _min, max) => [0, (max || 1) * 1.05] } },
      axes: [
        { ...axis, values: (_plot, ticks, _axis, _space, step) => ticks.map((tick) => axisTime(tick, step)) },
        { ...axis, size: 70, values: (_plot, ticks) => ticks.map((tick) => number(tick)) },
      ],
      series: [
        { label: 'Time', value: (_plot, seconds) => (seconds === null ? '–' : formatTime(seconds * 1000, 'minute')) },
        ...series.map(({ label }, index) => ({
          label,
          stroke: color(`--plot-${index}`),
          dash: DASHES[index] ?? [],
          width: 2,
          points: { show: false },
          value: (/** @type {uPlot} */ _plot, /** @type {number | null} */ value) =>
            value === null ? '–' : `${number(value)} ${unit}`,
        })),
      ],
    })
  }
}

/**
 * At midnight the date, otherwise the time.
 * @param {number} seconds since 1970
 * @param {number} step between two ticks, in seconds
 */
function axisTime(seconds, step) {
  const text = formatTime(seconds * 1000, 'minute')
  return step >= 86_400 || text.endsWith(' 00:00') ? text.slice(0, 10) : text.slice(11)
}

/** @param {PlotData} data */
function describe({ title, series, starts, unit }) {
  const [from, until] = [starts[0], starts.at(-1)]
  if (from === undefined || until === undefined) return title
  const parts = series.map(({ label, values }) => {
    const known = values.filter((value) => value !== null)
    return `${label}: at most ${number(Math.max(0, ...known))} ${unit}, ${number(known.at(-1) ?? 0)} at the end`
  })
  return `${title}, ${formatTime(from * 1000, 'minute')} to ${formatTime(until * 1000, 'minute')}. ${parts.join('; ')}.`
}

customElements.define('time-plot', Plot)

/** The values of a plot, for those who cannot see it or point at it. It is empty until it is shown: there may be thousands. */
class Values extends HTMLElement {
  /** @type {PlotData | undefined} */
  #data

  /** @param {PlotData} data */
  set data(data) {
    this.#data = data
    this.fill()
  }

  fill() {
    const isShown = this.closest('details')?.open === true
    if (!isShown || this.#data === undefined) return
    const { starts, series, unit } = this.#data
    const table = document.createElement('table')
    const head = table.createTHead().insertRow()
    for (const text of ['Time', ...series.map(({ label }) => `${label} (${unit})`)]) {
      const cell = document.createElement('th')
      cell.scope = 'col'
      cell.textContent = text
      head.append(cell)
    }
    const body = table.createTBody()
    starts.forEach((start, index) => {
      const row = body.insertRow()
      row.insertCell().textContent = formatTime(start * 1000, 'minute')
      for (const { values } of series) {
        const value = values[index] ?? null
        row.insertCell().textContent = value === null ? '–' : number(value)
      }
    })
    this.replaceChildren(table)
  }
}

customElements.define('plot-values', Values)

/**
 * A plot, and its values as a table.
 * @param {PlotData} data
 */
export const plot = (data) => html`
  <time-plot .data=${data}></time-plot>
  <details class="values" @toggle=${showValues}>
    <summary>Values as a table</summary>
    <div class="scroll" tabindex="0" role="region" aria-label=${`${data.title}: values`}><plot-values .data=${data}></plot-values></div>
  </details>
`

/** @param {Event} event */
function showValues({ target }) {
  const values = target instanceof HTMLElement ? target.querySelector('plot-values') : null
  if (values instanceof Values) values.fill()
}
