// Makes vectors.json with Polkadot's own libraries, and checks go.json, what the
// Go tests signed and derived, with them. Run in this folder:
//
//   npm install && node make.mjs            writes vectors.json
//   go test ./crypto/identity -update-go    writes go.json (from the repository's root)
//   node make.mjs check                     verifies go.json
//
// Only the results are needed by the tests: they do not need Node.
import { readFileSync, writeFileSync } from "node:fs";
import * as u from "@polkadot/util-crypto";
import { entropyToMnemonic } from "@polkadot/util-crypto/mnemonic/bip39";
import * as wasm from "@polkadot/wasm-crypto";

const hex = (b) => Buffer.from(b).toString("hex");
const bin = (s) => new Uint8Array(Buffer.from(s, "hex"));
await u.cryptoWaitReady();
await wasm.waitReady();

if (process.argv[2] === "check") {
  const go = JSON.parse(readFileSync("go.json"));
  for (const s of go.signatures) {
    const ok = u.sr25519Verify(bin(s.msg), bin(s.sig), bin(s.pub)) && wasm.sr25519Verify(bin(s.sig), bin(s.msg), bin(s.pub));
    if (!ok) throw new Error("go signature refused: " + JSON.stringify(s));
    if (u.sr25519Verify(bin(s.msg + "00"), bin(s.sig), bin(s.pub))) throw new Error("changed message accepted");
  }
  for (const a of go.agreements) {
    const pair = u.sr25519PairFromSeed(bin(a.seed));
    if (hex(u.sr25519Agreement(pair.secretKey, bin(a.peer))) !== a.shared) throw new Error("agreement differs");
  }
  console.log(`${go.signatures.length} signatures and ${go.agreements.length} agreements by Go accepted`);
} else {
  const out = { made_with: "@polkadot/util-crypto 14.0.3, @polkadot/wasm-crypto 7.5.4", seeds: [], phrases: [], uris: [], signatures: [], agreements: [], ss58: [] };
  const seeds = Array.from({ length: 8 }, (_, i) => u.blake2AsU8a("seed " + i, 256));
  for (const s of seeds) out.seeds.push({ seed: hex(s), pub: hex(u.sr25519PairFromSeed(s).publicKey) });
  const kr = (uri) => {
    const { derivePath, password, path, phrase } = u.keyExtractSuri(uri);
    const seed = phrase.startsWith("0x") ? bin(phrase.slice(2)) : u.mnemonicToMiniSecret(phrase, password);
    return u.keyFromPath(u.sr25519PairFromSeed(seed), path, "sr25519").publicKey;
  };
  const dev = "bottom drive obey lake curtain smoke basket hold race lonely fit walk";
  const phrases = [dev, ...[12, 15, 18, 21, 24].map((n) => entropyToMnemonic(u.blake2AsU8a("phrase " + n, 256).slice(0, (n / 3) * 4)))];
  // entropy that starts with zero bytes: a big-integer decoder loses them
  phrases.push(entropyToMnemonic(new Uint8Array(16)));
  for (const p of phrases)
    for (const password of ["", "secret"]) out.phrases.push({ phrase: p, password, seed: hex(u.mnemonicToMiniSecret(p, password)) });
  for (const uri of [
    `${dev}//Alice`, `${dev}//Bob`, `${dev}/soft`, `${dev}//hard/soft//0/1`, `${dev}//18446744073709551615`, `${dev}//Alice///password`,
    `${dev}//a junction that is longer than thirty two bytes`, `0x${hex(seeds[0])}//stash`,
    `${dev}//a junction of more than sixty-four bytes, whose SCALE length takes two bytes to write down`,
  ]) out.uris.push({ uri, pub: hex(kr(uri)) });
  for (let i = 0; i < 8; i++) {
    const pair = u.sr25519PairFromSeed(seeds[i]), msg = u.blake2AsU8a("msg " + i, 256).slice(0, i * 4);
    out.signatures.push({ lib: "util-crypto", msg: hex(msg), pub: hex(pair.publicKey), sig: hex(u.sr25519Sign(msg, pair)) });
    const w = wasm.sr25519KeypairFromSeed(seeds[i]);
    out.signatures.push({ lib: "wasm-crypto", msg: hex(msg), pub: hex(w.slice(64)), sig: hex(wasm.sr25519Sign(w.slice(64), w.slice(0, 64), msg)) });
    const peer = u.sr25519PairFromSeed(seeds[(i + 1) % 8]).publicKey;
    out.agreements.push({ seed: hex(seeds[i]), peer: hex(peer), shared: hex(wasm.sr25519Agree(peer, w.slice(0, 64))) });
  }
  for (const prefix of [0, 30, 42, 63, 64, 255, 256, 16383])
    out.ss58.push({ prefix, pub: out.seeds[0].pub, address: u.encodeAddress(bin(out.seeds[0].pub), prefix) });
  writeFileSync("vectors.json", JSON.stringify(out, null, 1) + "\n");
}
