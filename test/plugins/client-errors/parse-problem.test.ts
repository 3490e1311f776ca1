import t from 'tap'
import { originOf } from '../../../src/plugins/client-errors/parse-problem.ts'

t.test('the origin of a request that is not valid HTTP is found in its bytes', async (t) => {
  const packets: [packet: string | undefined, origin: string | undefined][] = [
    ['GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\nbad\r\n', 'https://a.example'],
    ['GET / HTTP/1.1\r\norigin:\t https://a.example \t\r\n', 'https://a.example'],
    ['GET / HTTP/1.1\r\nX-Origin: https://a.example\r\nbad\r\n', undefined],
    ['GET /?a=origin:https://a.example HTTP/1.1\r\nbad\r\n', undefined],
    ['GET / HTTP/1.1\r\nOrigin: https://a.exam', undefined],
    ['', undefined],
    [undefined, undefined],
  ]
  for (const [packet, origin] of packets) {
    const rawPacket = packet === undefined ? {} : { rawPacket: Buffer.from(packet) }
    t.equal(originOf(Object.assign(new Error('Parse Error'), rawPacket)), origin, packet ?? 'no packet')
  }
})
