/* Float32 arithmetic on magnitudes, one rounding to nearest even per operation. */
static const @fmt @float32 = {0, 8, 23, 127, 1, 1, 1, 0, 0x7f7fffffu, 0x7fc00000u, 0};
static const @fmt @bfloat16 = {0, 8, 7, 127, 1, 1, 1, 0, 0x7f7fu, 0x7fc0u, 0};

static inline @num @fl(@num n) { return @decode(@round(n, &@float32, @RNE, @TO_INF), &@float32); }
static inline @num @bf(@num n) { return @decode(@round(n, &@bfloat16, @RNE, @TO_INF), &@bfloat16); }
static inline @num @infinite(void) {
  @num n = {@INF, 0, 0, 0, 0, 0};
  return n;
}
static inline @num @dyadic(uint64_t sig, int lsb) {
  @num n = {@NUM, 0, 0, 0, 0, 0};
  n.sig = sig;
  n.lsb = lsb;
  return n;
}
static inline int @none(@num n) { return n.kind == @NUM && !n.sig; }

/* fl(a / b); 0 / 0 is 0. */
static inline @num @over(@num a, @num b) {
  if (b.kind == @INF || @none(a)) return @zero();
  if (@none(b) || a.kind == @INF) return @infinite();
  uint64_t p = (uint64_t)a.sig, q = (uint64_t)b.sig;
  int lsb = a.lsb - b.lsb;
  for (; !(p >> 62); lsb--) p <<= 1;
  for (; !(q & 1); lsb--) q >>= 1;
  while (q >> 32) { /* no operand has so many bits */
    q >>= 1;
    lsb--;
  }
  return @fl(@dyadic(p / q | (uint64_t)(p % q != 0), lsb));
}

/* fl(a b); 0 times infinity is 0. */
static inline @num @by(@num a, @num b) {
  if (@none(a) || @none(b)) return @zero();
  if (a.kind == @INF || b.kind == @INF) return @infinite();
  return @fl(@dyadic((uint64_t)a.sig * (uint64_t)b.sig, a.lsb + b.lsb));
}

/* Whether a is below b; both are magnitudes. */
static inline int @below(@num a, @num b) {
  uint64_t p = (uint64_t)a.sig, q = (uint64_t)b.sig;
  if (a.kind == @INF || @none(b)) return 0;
  if (b.kind == @INF || @none(a)) return 1;
  int e = @log2(a.sig) + a.lsb, f = @log2(b.sig) + b.lsb;
  if (e != f) return e < f;
  while (!(p >> 63)) p <<= 1;
  while (!(q >> 63)) q <<= 1;
  return p < q;
}
