// Starts chopsticks with a real chain's genesis (by default Westend's, from the shared data) and runs TestChopsticks
// against it: `npm install --ignore-scripts && npm test`. Another raw chain specification may be given as argument.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'

const here = dirname(fileURLToPath(import.meta.url))
const name = 'data/substrate/genesis-westend-chain-spec-raw.json.gz'

const sharedSpec = () => {
  if (process.env.PHALA_SHARED) return join(process.env.PHALA_SHARED, name)
  for (let dir = here; dir !== dirname(dir); dir = dirname(dir)) {
    const path = join(dir, '..', 'shared', name)
    if (existsSync(path)) return path
  }
  throw new Error(`no ../shared/${name} beside the repository, and $PHALA_SHARED is not set`)
}

const freePort = () => new Promise((done) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address()
    server.close(() => done(port))
  })
})

const path = process.argv[2] ? resolve(process.argv[2]) : sharedSpec()
const raw = readFileSync(path)
const folder = mkdtempSync(join(tmpdir(), 'chopsticks-'))
const spec = join(folder, 'spec.json')
writeFileSync(spec, path.endsWith('.gz') ? gunzipSync(raw) : raw)
const port = await freePort()
const node = spawn(process.execPath, [join(here, 'node_modules/@acala-network/chopsticks/chopsticks.cjs'),
  `--chain-spec=${spec}`, '--host', '127.0.0.1', '--port', String(port)], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] })
let log = ''
const listening = new Promise((done, fail) => {
  const onData = (b) => {
    log += b
    if (log.includes('RPC listening')) done()
  }
  node.stdout.on('data', onData)
  node.stderr.on('data', onData)
  node.on('exit', (code) => fail(new Error(`chopsticks ended with ${code}:\n${log}`)))
  setTimeout(() => fail(new Error(`chopsticks does not listen after 120 s:\n${log}`)), 120_000).unref()
})
let status = 1
try {
  await listening
  const test = spawnSync('go', ['test', '-run', '^TestChopsticks$', '-count=1', '-v', '.'], {
    cwd: join(here, '../..'), stdio: 'inherit', env: { ...process.env, PHALA_CHOPSTICKS: `127.0.0.1:${port}`, PHALA_CHOPSTICKS_SPEC: spec },
  })
  status = test.status ?? 1
} finally {
  node.removeAllListeners('exit')
  node.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
}
process.exit(status)
