// Tally in AssemblyScript: a number to which anyone may add, and which only its owner may
// see. It needs nothing but docs/abi.md and the compiler (npm install here, or asc 0.28):
//
//   npx asc tally.ts -o tally.wasm -O2 --runtime stub --use abort=tally/abort
//
// Inputs are the convention's, {"method":"Add","args":40}, as phala call sends them.

@external("phat", "input_len") declare function input_len(): u32;
@external("phat", "input_read") declare function input_read(to: usize): void;
@external("phat", "output") declare function host_output(p: usize, n: u32): void;
@external("phat", "fail") declare function host_fail(code: u32, message: usize, n: u32): void;
@external("phat", "kv_get") declare function kv_get(key: usize, n: u32): i64;
@external("phat", "staged_read") declare function staged_read(to: usize): void;
@external("phat", "kv_put") declare function kv_put(key: usize, kn: u32, value: usize, vn: u32): void;
@external("phat", "caller") declare function host_caller(to: usize): u32;

// Codes below 100 mean the same in every contract.
const NO_METHOD = 2;
const ARGUMENTS = 3;
const NOT_OWNER = 4;
const TOO_MUCH = 100;

// The compiler calls this where the language traps. It replaces env.abort, which a
// contract cannot import.
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  unreachable();
}

function bytes(s: string): ArrayBuffer {
  return String.UTF8.encode(s);
}

function answer(s: string): void {
  const b = bytes(s);
  host_output(changetype<usize>(b), b.byteLength);
}

function fail(code: u32, message: string): void {
  const b = bytes(message);
  host_fail(code, changetype<usize>(b), b.byteLength);
}

function get(key: string): ArrayBuffer | null {
  const k = bytes(key);
  const n = kv_get(changetype<usize>(k), k.byteLength);
  if (n < 0) return null;
  const v = new ArrayBuffer(i32(n));
  staged_read(changetype<usize>(v));
  return v;
}

function put(key: string, value: ArrayBuffer): void {
  const k = bytes(key);
  kv_put(changetype<usize>(k), k.byteLength, changetype<usize>(value), value.byteLength);
}

function caller(): ArrayBuffer {
  const b = new ArrayBuffer(64);
  return b.slice(0, host_caller(changetype<usize>(b)));
}

function same(a: ArrayBuffer, b: ArrayBuffer): bool {
  return a.byteLength == b.byteLength && memory.compare(changetype<usize>(a), changetype<usize>(b), a.byteLength) == 0;
}

function input(): string {
  const b = new ArrayBuffer(input_len());
  input_read(changetype<usize>(b));
  return String.UTF8.decode(b);
}

// rest is what comes behind {"method":"NAME" if that is what the caller asked for.
function rest(method: string): string | null {
  const begin = '{"method":"' + method + '"';
  const all = input();
  return all.startsWith(begin) ? all.substring(begin.length) : null;
}

function total(): u64 {
  const v = get("total");
  return v === null ? 0 : load<u64>(changetype<usize>(v));
}

export function deploy(): void {
  const more = rest("Init");
  if (more === null || more != "}") return fail(ARGUMENTS, "Init takes no argument");
  put("owner", caller());
}

export function call(): void {
  const more = rest("Add");
  if (more === null) return fail(NO_METHOD, "the commands are: Add");
  // ,"args":N} in the one form that JSON has for a whole number.
  const begin = ',"args":';
  let n: u64 = 0;
  let at = begin.length;
  let ok = more.startsWith(begin);
  for (; ok && at < more.length - 1; at++) {
    const digit = more.charCodeAt(at) - 48;
    ok = digit >= 0 && digit <= 9 && n <= (u64.MAX_VALUE - u64(digit)) / 10 && (at == begin.length || more.charCodeAt(begin.length) != 48);
    n = n * 10 + u64(digit);
  }
  if (!ok || at == begin.length || !more.endsWith("}")) return fail(ARGUMENTS, "Add takes a whole number");
  const t = total();
  if (t + n < t) return fail(TOO_MUCH, "the total would not fit 64 bits");
  const v = new ArrayBuffer(8);
  store<u64>(changetype<usize>(v), t + n);
  put("total", v);
  answer("null");
}

// With this, phala describe knows the contract, and phala call checks arguments.
const description = '{"name":"Tally","methods":[' +
  '{"name":"Add","kind":"command","arg":{"kind":"number","go":"uint64"}},' +
  '{"name":"Current","kind":"query","return":{"kind":"number","go":"uint64"}},' +
  '{"name":"Init","kind":"init"}]}';

export function query(): void {
  if (rest("describe") == "}") return answer(description);
  if (rest("Current") != "}") return fail(NO_METHOD, "the queries are: Current");
  const owner = get("owner");
  const who = caller();
  if (owner === null || who.byteLength == 0 || !same(owner, who)) return fail(NOT_OWNER, "only the owner may ask this: sign the query");
  answer(total().toString());
}
