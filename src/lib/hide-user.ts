/** A URL, or what was meant to be one, without a user and a password. */
export const hideUser = (text: string): string => text.replace(/^([a-z][a-z\d+.-]*:\/\/)?.*@/is, '$1…@')
