// The corpus's AssemblyScript module: a start section, garbage collection,
// strings, maps and typed arrays.
let started: i32 = 7;
started = started * 6;

export function state(): i32 {
  return started++;
}

export function strings(n: i32): i32 {
  let s = "";
  for (let i = 0; i < n; i++) s += i.toString() + ",";
  return s.length;
}

export function maps(n: i32): i64 {
  const m = new Map<string, i64>();
  for (let i = 0; i < n; i++) m.set("key" + (i % 97).toString(), i);
  let sum: i64 = 0;
  const keys = m.keys();
  for (let i = 0; i < keys.length; i++) sum = sum * 31 + m.get(keys[i]);
  return sum;
}

export function sort(n: i32): i32 {
  const a = new Int32Array(n);
  let x: u32 = 12345;
  for (let i = 0; i < n; i++) a[i] = (x = x * 1664525 + 1013904223) as i32;
  a.sort();
  return a[n / 2];
}

export function floats(n: i32): f64 {
  let s = 0.0;
  for (let i = 1; i <= n; i++) s += Math.sin(i as f64) / Math.sqrt(i as f64);
  return s;
}

export function fails(): void {
  throw new Error("as intended");
}
