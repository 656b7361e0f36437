/* The corpus's C module: SHA-256, a quick sort, a table of squares by
 * recursion, float sums, and bulk memory through the compiler's builtins. */
typedef unsigned int u32;
typedef unsigned char u8;
typedef unsigned long size_t;

#define EXPORT(n) __attribute__((export_name(n)))

static const u32 K[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static u8 buf[1 << 20];
static int nums[1 << 17];

static u32 ror(u32 x, int n) { return x >> n | x << (32 - n); }

static void block(u32 h[8], const u8 *p) {
	u32 w[64], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], k = h[7];
	for (int i = 0; i < 16; i++, p += 4)
		w[i] = (u32)p[0] << 24 | (u32)p[1] << 16 | (u32)p[2] << 8 | p[3];
	for (int i = 16; i < 64; i++) {
		u32 s = ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3;
		u32 t = ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10;
		w[i] = w[i - 16] + s + w[i - 7] + t;
	}
	for (int i = 0; i < 64; i++) {
		u32 t1 = k + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i];
		u32 t2 = (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
		k = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
	}
	h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e, h[5] += f, h[6] += g, h[7] += k;
}

EXPORT("sha") int sha(int blocks) {
	u32 h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
	for (int i = 0; i < (int)sizeof buf; i++) buf[i] = (u8)(i * 7);
	for (int i = 0; i < blocks; i++) block(h, buf + (size_t)(i * 64) % sizeof buf);
	return (int)h[0];
}

static void quick(int *a, int lo, int hi) {
	while (lo < hi) {
		int p = a[(lo + hi) / 2], i = lo, j = hi;
		while (i <= j) {
			while (a[i] < p) i++;
			while (a[j] > p) j--;
			if (i <= j) {
				int t = a[i];
				a[i++] = a[j], a[j--] = t;
			}
		}
		if (j - lo < hi - i) {
			quick(a, lo, j);
			lo = i;
		} else {
			quick(a, i, hi);
			hi = j;
		}
	}
}

EXPORT("sort") int sort(int n) {
	u32 x = 12345;
	for (int i = 0; i < n; i++) nums[i] = (int)(x = x * 1664525 + 1013904223);
	quick(nums, 0, n - 1);
	return nums[n / 2];
}

EXPORT("ack") int ack(int m, int n) {
	return m == 0 ? n + 1 : n == 0 ? ack(m - 1, 1) : ack(m - 1, ack(m, n - 1));
}

EXPORT("bulk") int bulk(int n) {
	__builtin_memset(buf, n, (size_t)n);
	__builtin_memcpy(buf + n, buf, (size_t)n);
	__builtin_memmove(buf + 1, buf, (size_t)n);
	return buf[n / 2] + buf[2 * n - 1];
}

EXPORT("floats") double floats(int n) {
	double s = 0, z = 0;
	float f = 1;
	for (int i = 1; i <= n; i++) {
		s += __builtin_sqrt((double)i) / i;
		f = f * 1.5f - (float)s;
		if (i % 7 == 0) z += (z - z) / (s - s); /* makes a NaN */
	}
	return s + f + z;
}

EXPORT("divide") int divide(int a, int b) { return a / b; }

EXPORT("oob") int oob(int i) { return *(volatile int *)(size_t)(0x7ffffff0 + i); }

typedef int (*op)(int, int);
static int add(int a, int b) { return a + b; }
static int mul(int a, int b) { return a * b; }
static int sub(int a, int b) { return a - b; }
static op table[3] = {add, mul, sub};

EXPORT("indirect") int indirect(int n) {
	int r = 1;
	for (int i = 0; i < n; i++) r = table[i % 3](r, i);
	return r;
}
