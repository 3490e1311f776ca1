import { html } from '../lit-html/lit-html.js'

/** Shapes and words, because not everybody sees the colours. */
const SHAPES = { ok: '●', warning: '▲', critical: '■', unknown: '○' }
const WORDS = { ok: 'OK', warning: 'Warning', critical: 'Critical', unknown: 'Not known' }

/** @typedef {keyof typeof SHAPES} Level */

/**
 * @param {Level} value
 * @param {string} [text]
 */
export const level = (value, text = WORDS[value]) =>
  html`<span class=${`level ${value}`}><span aria-hidden="true">${SHAPES[value]}</span> ${text}</span>`
