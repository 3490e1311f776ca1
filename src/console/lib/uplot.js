// @ts-expect-error The types of the package are not beside this file.
import Untyped from '../uplot/dist/uPlot.esm.js'

export const UPlot = /** @type {typeof import('uplot')} */ (Untyped)
