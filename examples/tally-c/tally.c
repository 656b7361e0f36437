// Tally in C: a number to which anyone may add, and which only its owner may see. It
// needs nothing but docs/abi.md and a compiler:
//
//   clang --target=wasm32 -O2 -mbulk-memory -nostdlib -Wl,--no-entry -Wl,--strip-all -o tally.wasm tally.c
//
// Inputs are the convention's, {"method":"Add","args":40}, as phala call sends them.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define PHAT(name) __attribute__((import_module("phat"), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

PHAT("input_len") u32 input_len(void);
PHAT("input_read") void input_read(void *to);
PHAT("output") void output(const void *p, u32 n);
PHAT("fail") void fail(u32 code, const void *message, u32 n);
PHAT("kv_get") long long kv_get(const void *key, u32 n);
PHAT("staged_read") void staged_read(void *to);
PHAT("kv_put") void kv_put(const void *key, u32 kn, const void *value, u32 vn);
PHAT("caller") u32 caller(void *to);

// Codes below 100 mean the same in every contract.
enum { NO_METHOD = 2, ARGUMENTS = 3, NOT_OWNER = 4, TOO_MUCH = 100 };

#define SAY(code, text) fail(code, text, sizeof(text) - 1)
#define ANSWER(text) output(text, sizeof(text) - 1)

static u8 input[512];
static u32 length, at;

static u32 equal(const u8 *a, const char *b, u32 n) {
  for (u32 i = 0; i < n; i++)
    if (a[i] != (u8)b[i]) return 0;
  return 1;
}

// word moves over a word of the input, if that is what comes next.
static u32 word_(const char *w, u32 n) {
  if (length - at < n || !equal(input + at, w, n)) return 0;
  at += n;
  return 1;
}
#define WORD(w) word_(w, sizeof(w) - 1)

// method moves over {"method":"NAME", if NAME is what the caller asked for.
static u32 method_(const char *name, u32 n) {
  at = 0;
  return WORD("{\"method\":\"") && word_(name, n) && WORD("\"");
}
#define METHOD(name) method_(name, sizeof(name) - 1)

// end is whether nothing comes but the closing brace: no argument.
static u32 end(void) { return WORD("}") && at == length; }

// number reads ,"args":N} in the one form that JSON has for a whole number.
static u32 number(u64 *out) {
  if (!WORD(",\"args\":")) return 0;
  u32 first = at;
  u64 v = 0;
  while (at < length && input[at] >= '0' && input[at] <= '9') {
    u32 digit = input[at++] - '0';
    if (v > (~0ull - digit) / 10) return 0;
    v = v * 10 + digit;
  }
  if (at == first || (input[first] == '0' && at > first + 1)) return 0;
  *out = v;
  return end();
}

static u32 read(void) {
  length = input_len();
  if (length > sizeof input) return 0;
  input_read(input);
  return 1;
}

static u64 total(void) {
  u64 v = 0;
  if (kv_get("total", 5) == sizeof v) staged_read(&v);
  return v;
}

EXPORT("deploy") void deploy(void) {
  if (!read() || !METHOD("Init") || !end()) {
    SAY(ARGUMENTS, "Init takes no argument");
    return;
  }
  u8 who[64];
  kv_put("owner", 5, who, caller(who));
}

EXPORT("call") void call(void) {
  u64 n, t = total();
  if (!read() || !METHOD("Add")) SAY(NO_METHOD, "the commands are: Add");
  else if (!number(&n)) SAY(ARGUMENTS, "Add takes a whole number");
  else if (t + n < t) SAY(TOO_MUCH, "the total would not fit 64 bits");
  else {
    t += n;
    kv_put("total", 5, &t, sizeof t);
    ANSWER("null");
  }
}

// With this, phala describe knows the contract, and phala call checks arguments.
static const char description[] =
    "{\"name\":\"Tally\",\"methods\":["
    "{\"name\":\"Add\",\"kind\":\"command\",\"arg\":{\"kind\":\"number\",\"go\":\"uint64\"}},"
    "{\"name\":\"Current\",\"kind\":\"query\",\"return\":{\"kind\":\"number\",\"go\":\"uint64\"}},"
    "{\"name\":\"Init\",\"kind\":\"init\"}]}";

EXPORT("query") void query(void) {
  if (!read()) {
    SAY(NO_METHOD, "the queries are: Current");
    return;
  }
  if (METHOD("describe") && end()) {
    ANSWER(description);
    return;
  }
  if (!METHOD("Current") || !end()) {
    SAY(NO_METHOD, "the queries are: Current");
    return;
  }
  u8 who[64], owner[64];
  u32 n = caller(who);
  if (n == 0 || kv_get("owner", 5) != n) {
    SAY(NOT_OWNER, "only the owner may ask this: sign the query");
    return;
  }
  staged_read(owner);
  for (u32 i = 0; i < n; i++)
    if (who[i] != owner[i]) {
      SAY(NOT_OWNER, "only the owner may ask this: sign the query");
      return;
    }
  u8 digits[20];
  u32 i = sizeof digits;
  u64 t = total();
  do digits[--i] = '0' + t % 10;
  while (t /= 10);
  output(digits + i, sizeof digits - i);
}
