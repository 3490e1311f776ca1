import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { Budget } from '../lib/budget.ts'
import type { Key } from '../operate/keys.ts'

/** Bounds the memory of answers that their readers have not taken: there may be any number of those who stand still. */
export default fp(async function unread(app: FastifyInstance, { config }: { config: Config }) {
  const budget = new Budget(config.UNREAD_MAX_BYTES, 'Too many answers wait for their readers. Ask again later.')
  app.decorate('unread', budget)
  app.decorateReply('reserve', function (bytes) {
    // He who has left already would never give it back.
    if (this.raw.destroyed) return
    const owner = (this.request.key as Key).id
    budget.take(owner, bytes)
    this.raw.once('close', () => budget.give(owner, bytes))
  })
})

declare module 'fastify' {
  interface FastifyInstance {
    unread: Budget
  }
  interface FastifyReply {
    /** Claims the memory of the answer until it is taken, or the reader gone. @throws Problem overloaded */
    reserve(bytes: number): void
  }
}
