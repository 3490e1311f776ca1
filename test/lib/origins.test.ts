import t from 'tap'
import { parseOrigins } from '../../src/lib/origins.ts'

t.test('a list of origins, with ports and with schemes of apps; or all', async (t) => {
  t.equal(parseOrigins(' * '), '*')
  t.same(
    parseOrigins('https://app.example.com, http://localhost:5173,capacitor://localhost,http://[::1]:8080'),
    new Set(['https://app.example.com', 'http://localhost:5173', 'capacitor://localhost', 'http://[::1]:8080']),
  )
})

t.test('what a browser would never send is an error that says what to write', async (t) => {
  const wrong: [text: string, message: RegExp][] = [
    ['https://app.example.com/', /browsers write an origin like https:\/\/app\.example\.com$/],
    ['https://app.example.com/shop', /browsers write an origin like https:\/\/app\.example\.com$/],
    ['https://App.Example.com', /browsers write an origin like https:\/\/app\.example\.com$/],
    ['https://app.example.com:443', /browsers write an origin like https:\/\/app\.example\.com$/],
    ['https://user@app.example.com', /browsers write an origin like https:\/\/app\.example\.com$/],
    ['https://bücher.example', /browsers write an origin like https:\/\/xn--bcher-kva\.example$/],
    ['https://', /browsers write an origin like https:\/\/app\.example\.com$/],
    ['app.example.com', /begins with its scheme, such as https:\/\/app\.example\.com$/],
    ['https://*.example.com', /List each origin$/],
    ['*, https://app.example.com', /it must be alone$/],
    ['null', /To allow it, use \*$/],
    ['https://a.example,', /has an empty entry/],
    ['https://a.example https://b.example', /b\.example", but origins are separated by commas$/],
    ['https://a.example;https://b.example', /b\.example", but origins are separated by commas$/],
    ['file://', /has the origin null\. Serve it over HTTP, or use \*$/],
    ['file:///home/page.html', /has the origin null/],
    ['app://host/path', /only a scheme, a host and perhaps a port$/],
  ]
  for (const [text, message] of wrong) t.throws(() => parseOrigins(text), { message }, text)
})
