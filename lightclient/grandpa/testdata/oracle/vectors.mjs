// Makes the test vectors in the folder above with implementations that this project did not write: the hashers of
// @polkadot/util-crypto, the SCALE codec of @polkadot/types, and the Rust trie (sp-trie, compiled to WebAssembly) in
// @acala-network/chopsticks-executor. Run `npm install && npm run vectors` here; the tests read the results and need
// no Node. Everything is made from a fixed seed, so a second run changes nothing.
import { readFileSync, writeFileSync } from 'node:fs'
import * as executor from '@acala-network/chopsticks-executor'
import { TypeRegistry } from '@polkadot/types'
import { u8aConcat, u8aToHex, hexToU8a } from '@polkadot/util'
import { blake2AsU8a, xxhashAsU8a } from '@polkadot/util-crypto'

const out = new URL('../', import.meta.url)
const hex = (b) => u8aToHex(b, -1, false)
const write = (name, value) => writeFileSync(new URL(name, out), JSON.stringify(value, null, 1) + '\n')

// xorshift32, the same on every machine
let state = 20261120
const random = () => {
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  return state >>> 0
}
const bytes = (n) => Uint8Array.from({ length: n }, () => random() & 0xff)
const below = (n) => random() % n

// --- keys.json: the storage hashers
const keys = []
for (let n = 0; n <= 130; n++) {
  const input = bytes(n)
  keys.push({
    input: hex(input),
    twox64: hex(xxhashAsU8a(input, 64)),
    twox128: hex(xxhashAsU8a(input, 128)),
    blake2_128: hex(blake2AsU8a(input, 128)),
    twox64Concat: hex(u8aConcat(xxhashAsU8a(input, 64), input)),
    blake2_128Concat: hex(u8aConcat(blake2AsU8a(input, 128), input)),
  })
}
write('keys.json', keys)

// --- tries.json: roots in both state versions, and all nodes of the version 0 trie
const tries = []
for (let i = 0; i < 36; i++) {
  const entries = new Map()
  const count = i < 8 ? i : 1 + below(40)
  const stem = bytes(below(20))
  for (let k = 0; k < count; k++) {
    let key
    switch (below(4)) {
      case 0: key = bytes(1 + below(3)); break // many shared prefixes, values in branches
      case 1: key = bytes(32); break
      case 2: key = u8aConcat(stem, bytes(1 + below(2))); break
      default: key = u8aConcat(stem, new Uint8Array(1 + below(200)), bytes(1)); break // long partial keys
    }
    const size = [0, 1, 31, 32, 33, 34, 64, 200][below(8)]
    entries.set(u8aToHex(key), u8aToHex(bytes(size)))
  }
  const list = [...entries].sort(([a], [b]) => (a < b ? -1 : 1))
  // the executor panics on an empty list
  const [root, nodes] = list.length > 0 ? await executor.create_proof([], list) : [null, []]
  const v0 = await executor.calculate_state_root(list, 0)
  const v1 = await executor.calculate_state_root(list, 1)
  if (root && root !== v0) throw new Error(`trie ${i}: two version 0 roots`)
  tries.push({ entries: list, root0: v0, root1: v1, nodes0: nodes.sort() })
}
write('tries.json', tries)

// --- scale.json: structures as @polkadot/types encodes them
const registry = new TypeRegistry()
const enc = (type, value) => hex(registry.createType(type, value).toU8a())
const account = () => bytes(32)
const header = (number, logs) => ({
  parentHash: bytes(32), number, stateRoot: bytes(32), extrinsicsRoot: bytes(32), digest: { logs },
})
const engine = (s) => u8aToHex(new TextEncoder().encode(s))
const logs = [
  { PreRuntime: [engine('BABE'), u8aToHex(u8aConcat([2], [7, 0, 0, 0], [1, 2, 3, 4, 0, 0, 0, 0]))] },
  { Consensus: [engine('FRNK'), u8aToHex(hexToU8a('0x030500000000000000'))] },
  { Consensus: [engine('BEEF'), u8aToHex(bytes(40))] },
  { Other: u8aToHex(bytes(3)) },
  { Seal: [engine('BABE'), u8aToHex(bytes(64))] },
]
const headers = [0, 63, 64, 16383, 16384, 1073741823, 1073741824, 4294967295].map((n, i) => header(n, logs.slice(0, i % 6)))
const headerVectors = headers.map((h) => {
  const b = registry.createType('Header', h).toU8a()
  return {
    number: Number(h.number), parent: hex(h.parentHash), stateRoot: hex(h.stateRoot),
    extrinsicsRoot: hex(h.extrinsicsRoot), logs: h.digest.logs.length, encoded: hex(b), hash: hex(blake2AsU8a(b, 256)),
  }
})
const votes = [0, 1, 2].map(() => ({
  precommit: { targetHash: bytes(32), targetNumber: below(1 << 30) }, signature: bytes(64), id: account(),
}))
const justification = {
  round: 12345678901n, commit: { targetHash: bytes(32), targetNumber: 77, precommits: votes }, votesAncestries: headers.slice(1, 3),
}
const authorities = [0, 1, 2].map((i) => [account(), i + 1])
const mqc = (prev, sentAt, data) => blake2AsU8a(registry.createType('(Hash, u32, Hash)',
  [prev, sentAt, blake2AsU8a(registry.createType('Bytes', data).toU8a(), 256)]).toU8a(), 256)
const messages = [0, 1, 2].map((i) => ({ sentAt: 1000 + i, data: u8aToHex(bytes([0, 5, 100][i])) }))
const mqcHeads = []
messages.reduce((prev, m) => {
  const next = mqc(prev, m.sentAt, m.data)
  mqcHeads.push(hex(next))
  return next
}, new Uint8Array(32))
const channel = {
  maxCapacity: 1000, maxTotalSize: 102400, maxMessageSize: 102400, msgCount: 3, totalSize: 105,
  mqcHead: '0x' + mqcHeads[2], senderDeposit: 10n ** 20n, recipientDeposit: 7n,
}
write('scale.json', {
  headers: headerVectors,
  justification: {
    encoded: enc('GrandpaJustification', justification), round: '12345678901',
    targetHash: hex(justification.commit.targetHash), targetNumber: 77, votes: votes.map((v) => ({
      hash: hex(v.precommit.targetHash), number: v.precommit.targetNumber, signature: hex(v.signature), id: hex(v.id),
    })), ancestries: headerVectors.slice(1, 3).map((h) => h.hash),
  },
  payload: {
    hash: hex(headers[0].parentHash), number: 99, round: '7', setId: '450',
    encoded: '01' + enc('(Hash, u32, u64, u64)', [headers[0].parentHash, 99, 7, 450]),
  },
  scheduledChange: {
    encoded: '01' + enc('(Vec<([u8;32], u64)>, u32)', [authorities, 9]), delay: 9,
    authorities: authorities.map(([k, w]) => ({ key: hex(k), weight: w })),
  },
  accountInfo: {
    encoded: enc('(u32, u32, u32, u32, u128, u128, u128, u128)', [5, 1, 2, 0, 10n ** 30n, 3, 4, 1n << 127n]),
    free: String(10n ** 30n), flags: String(1n << 127n),
  },
  validatorPrefs: { encoded: enc('ValidatorPrefs', { commission: 100000000, blocked: true }), commission: 100000000 },
  hrmpChannel: { encoded: enc('HrmpChannel', channel), senderDeposit: String(10n ** 20n), mqcHead: mqcHeads[2] },
  hrmpMessages: { encoded: enc('Vec<InboundHrmpMessage>', messages), messages: messages.map((m) => ({ sentAt: m.sentAt, data: m.data.slice(2) })), heads: mqcHeads },
  headData: { encoded: enc('HeadData', registry.createType('Header', headers[5]).toHex()), hash: headerVectors[5].hash },
})

// --- proofs.json comes from our side (go test ./lightclient/grandpa/grandpatest -run TestJudgedProofs -update); sp-trie
// must read the same entries from its nodes.
const proofs = JSON.parse(readFileSync(new URL('proofs.json', out)))
for (const [i, p] of proofs.entries()) {
  const got = await executor.decode_proof('0x' + p.root, p.nodes.map((n) => '0x' + n))
  const want = p.entries.map(([k, v]) => ['0x' + k, '0x' + v])
  if (JSON.stringify(got) !== JSON.stringify(want)) throw new Error(`proof ${i}: sp-trie reads ${JSON.stringify(got)}`)
}
console.log(`wrote keys.json (${keys.length}), tries.json (${tries.length}), scale.json; judged ${proofs.length} proofs of ours`)
process.exit(0)
