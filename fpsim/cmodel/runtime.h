/* Numbers: an integer times a power of two, an infinity, or NaN. */

enum { @NUM, @INF, @NAN };

typedef struct {
  int kind;     /* @NUM, @INF or @NAN */
  int neg;      /* sign, of zero too */
  @sig sig;     /* magnitude = sig * 2^lsb */
  int lsb;
  int has_e; /* whether e counts in an alignment */
  int e;     /* alignment exponent */
} @num;

/* A format: exponent, mantissa (or fixed-point) bits and what the codes at the ends mean. */
typedef struct {
  int fixed;    /* two's complement or unsigned integer times 2^-bias, man_bits wide */
  int exp_bits, man_bits, bias, is_signed;
  int nan;      /* 0 none, 1 IEEE 754, 2 all magnitude bits one, 3 the sign bit alone */
  int infinity; /* 1: the code above the largest finite one */
  int row0;     /* exponent field 0: 0 subnormal, 1 normal (no zero), 2 flushed */
  uint64_t max_code, nan_code;
  int top; /* fixed point: exponent of the largest magnitude */
} @fmt;

enum { @RNE, @RNA, @RTZ, @RUP, @RDN, @RTO, @SR };
enum { @SATURATE, @TO_INF, @TO_NAN, @WRAP };

/* Status flags, ORed while a dot product is computed; clear them before one. */
enum { @INEXACT = 1, @UNDERFLOW = 2, @OVERFLOW = 4, @INVALID = 16 };
static @THREAD unsigned @flags;

static inline int @log2(@sig x) {
  int n = -1;
  while (x) {
    x >>= 1;
    n++;
  }
  return n;
}

static inline int @emin(const @fmt *f) { return f->row0 == 1 ? -f->bias : 1 - f->bias; }
static inline uint64_t @sign_bit(const @fmt *f) {
  return f->is_signed ? (uint64_t)1 << (f->exp_bits + f->man_bits) : 0;
}

static inline @num @zero(void) {
  @num n = {@NUM, 0, 0, 0, 0, 0};
  return n;
}
static inline @num @nan_number(void) {
  @num n = {@NAN, 0, 0, 0, 0, 0};
  return n;
}

/* What a code means; e is max(floor(log2 |x|), emin), and counts unless x is zero or special. */
static inline @num @decode(uint64_t code, const @fmt *f) {
  @num n = @zero();
  if (f->fixed) {
    uint64_t top = (uint64_t)1 << (f->man_bits - 1);
    n.neg = f->is_signed && (code & top);
    n.sig = n.neg ? (top << 1) - code : code;
    n.lsb = -f->bias;
    n.has_e = n.sig != 0;
    n.e = f->top;
    return n;
  }
  uint64_t sign = @sign_bit(f), magnitude = sign ? code & (sign - 1) : code;
  uint64_t fraction = magnitude & (((uint64_t)1 << f->man_bits) - 1);
  int field = (int)(magnitude >> f->man_bits);
  n.neg = sign && (code & sign);
  if (n.neg && magnitude == 0 && f->nan == 3) return @nan_number();
  if (magnitude > f->max_code) {
    n.kind = f->infinity && magnitude == f->max_code + 1 ? @INF : @NAN;
    if (n.kind == @NAN) n.neg = 0;
    return n;
  }
  if (field || f->row0 == 1) {
    n.sig = fraction | ((uint64_t)1 << f->man_bits);
    n.lsb = field - f->bias - f->man_bits;
  } else {
    n.sig = f->row0 == 2 ? 0 : fraction;
    n.lsb = 1 - f->bias - f->man_bits;
  }
  if (n.sig) {
    n.has_e = 1;
    n.e = @log2(n.sig) + n.lsb;
    if (n.e < @emin(f)) n.e = @emin(f);
  }
  return n;
}

/* The exact product; its exponents add up. */
static inline @num @times(@num x, @num y) {
  @num n = @zero();
  if (x.kind == @NAN || y.kind == @NAN) return @nan_number();
  n.neg = x.neg ^ y.neg;
  if (x.kind == @INF || y.kind == @INF) {
    if ((x.kind == @NUM && !x.sig) || (y.kind == @NUM && !y.sig)) {
      @flags |= @INVALID;
      return @nan_number();
    }
    n.kind = @INF;
    return n;
  }
  n.sig = x.sig * y.sig;
  n.lsb = x.lsb + y.lsb;
  n.has_e = x.has_e && y.has_e;
  n.e = n.has_e ? x.e + y.e : 0;
  return n;
}

/* Exact sums: two's complement on the grid 2^@LOW, wide enough for every sum of this unit. */
typedef struct {
  int kind, neg;
  uint32_t w[@LIMBS];
} @sum;

static inline int @sum_is_zero(const @sum *s) {
  for (int i = 0; i < @LIMBS; i++)
    if (s->w[i]) return 0;
  return 1;
}

/* s += n, with IEEE 754's sign of zero; rdn: x - x is -0. The first term of a sum sets `first`. */
static inline void @sum_add(@sum *s, @num n, int rdn, int first) {
  if (first) {
    s->kind = @NUM;
    s->neg = n.neg;
    for (int i = 0; i < @LIMBS; i++) s->w[i] = 0;
  }
  if (n.kind == @NAN || s->kind == @NAN) {
    s->kind = @NAN;
    return;
  }
  if (n.kind == @INF) {
    if (s->kind == @INF && s->neg != n.neg) {
      s->kind = @NAN;
      @flags |= @INVALID;
    } else {
      s->kind = @INF;
      s->neg = n.neg;
    }
    return;
  }
  if (s->kind == @INF) return;
  if (n.sig) {
    int shift = n.lsb - @LOW, limb = shift / 32, bit = shift % 32;
    uint32_t part[@SIG_BITS / 32 + 1] = {0};
    for (int i = 0; i < @SIG_BITS / 32; i++) {
      uint64_t word = (uint64_t)(uint32_t)(n.sig >> (32 * i)) << bit;
      part[i] |= (uint32_t)word;
      part[i + 1] = (uint32_t)(word >> 32);
    }
    uint64_t carry = n.neg ? 1 : 0;
    for (int i = n.neg ? 0 : limb; i < @LIMBS; i++) {
      uint32_t p = i >= limb && i <= limb + @SIG_BITS / 32 ? part[i - limb] : 0;
      carry += (uint64_t)s->w[i] + (n.neg ? (uint32_t)~p : p);
      s->w[i] = (uint32_t)carry;
      carry >>= 32;
    }
  }
  if (@sum_is_zero(s))
    s->neg = s->neg == n.neg ? n.neg : rdn;
  else
    s->neg = s->w[@LIMBS - 1] >> 31;
}

static inline void @magnitude(const @sum *s, uint32_t *w) {
  uint64_t carry = 1;
  int minus = (int)(s->w[@LIMBS - 1] >> 31);
  for (int i = 0; i < @LIMBS; i++) {
    carry += (uint32_t)~s->w[i];
    w[i] = minus ? (uint32_t)carry : s->w[i];
    carry >>= 32;
  }
}

static inline int @round_up(int half, int rest, int odd, int neg, int mode) {
  switch (mode) {
    case @RNE: return half && (rest || odd);
    case @RNA: return half;
    case @RUP: return (half || rest) && !neg;
    case @RDN: return (half || rest) && neg;
    case @RTO: return (half || rest) && !odd;
    default: return 0;
  }
}

/* The random integer of a stochastic rounding: each takes the low bits of the next one. */
#if @RANDOM_BITS
static @THREAD const uint64_t *@random;
static @THREAD int @own_bits; /* as many as the stage at work has */
static inline uint64_t @next_random(int mode) {
  return mode == @SR ? *@random++ & (((uint64_t)1 << @own_bits) - 1) : 0;
}
#else
enum { @own_bits = 0 };
static inline uint64_t @next_random(int mode) {
  (void)mode;
  return 0;
}
#endif

/* Stochastic rounding of what is below bit `cut`: up when floor(f 2^n) + random >= 2^n. */
static inline int @random_up(const uint32_t *w, int cut, uint64_t random) {
  uint64_t steps = 0;
  for (int i = cut - 1; i >= cut - @own_bits; i--)
    steps = steps << 1 | (i >= 0 && i < 32 * @LIMBS ? w[i / 32] >> (i % 32) & 1 : 0);
  return steps + random >= (uint64_t)1 << @own_bits;
}

static inline uint64_t @beyond(int neg, int infinite, const @fmt *f, int mode, int overflow) {
  uint64_t sign = neg ? @sign_bit(f) : 0;
  int inward = mode == @RTZ || mode == @RTO || (mode == @RUP && neg) || (mode == @RDN && !neg);
  @flags |= infinite ? (overflow == @TO_INF ? 0 : @INVALID) : @OVERFLOW | @INEXACT;
  if (overflow == @SATURATE) return sign | f->max_code;
  if (overflow == @TO_NAN) return f->nan_code;
  return sign | (infinite || !inward ? f->max_code + 1 : f->max_code);
}

/* Whether a value whose first bit is 2^e, rounded up or not, is below all normal numbers. */
static inline int @tiny(int e, const uint32_t *w, int top, int neg, const @fmt *f, int mode,
                         uint64_t random) {
  int m = f->man_bits, emin = @emin(f), cut = top - m, ones = 1, half = 0, rest = 0;
  if (f->row0 != 1 && (uint64_t)1 << m > f->max_code) return 0;
  if (e != emin - 1) return e < emin;
  for (int i = top; i >= cut; i--) ones &= i >= 0 ? (int)(w[i / 32] >> (i % 32) & 1) : 0;
  if (cut > 0) half = (int)(w[(cut - 1) / 32] >> ((cut - 1) % 32) & 1);
  for (int i = 0; i < cut - 1; i++) rest |= (int)(w[i / 32] >> (i % 32) & 1);
  if (mode == @SR) return !(ones && @random_up(w, cut, random));
  return !(ones && @round_up(half, rest, m ? 1 : f->row0 == 1, neg, mode));
}

/* The code of a sum rounded once. ieee = 0: what is too large overflows in every mode. */
static inline uint64_t @encode(const @sum *s, const @fmt *f, int mode, int overflow, int ieee) {
  uint64_t random = @next_random(mode);
  if (s->kind == @NAN) {
    if (f->nan == 0) @flags |= @INVALID;
    return f->nan_code;
  }
  if (s->kind == @INF) return @beyond(s->neg, 1, f, mode, overflow);
  uint32_t w[@LIMBS];
  int top = -1, emin = @emin(f), m = f->man_bits;
  @magnitude(s, w);
  for (int i = 0; i < @LIMBS; i++)
    if (w[i]) top = 32 * i + @log2(w[i]);
  uint64_t code = 0;
  int lost = 0;
  if (top >= 0) {
    int e = top + @LOW > emin ? top + @LOW : emin;
    int cut = e - m - @LOW; /* first kept bit */
    uint64_t kept = 0;
    int half = 0, rest = 0;
    for (int i = top; i >= 0 && i >= cut; i--) kept = kept << 1 | (w[i / 32] >> (i % 32) & 1);
    if (cut < 0) kept <<= -cut;
    if (cut > 0 && cut - 1 <= top) half = (int)(w[(cut - 1) / 32] >> ((cut - 1) % 32) & 1);
    for (int i = 0; i < cut - 1 && i <= top; i++) rest |= (int)(w[i / 32] >> (i % 32) & 1);
    lost = half || rest;
    code = ((uint64_t)(e - emin) << m) + kept - (uint64_t)(f->row0 == 1) * ((uint64_t)1 << m);
    code += (uint64_t)(mode == @SR ? @random_up(w, cut, random)
                                   : @round_up(half, rest, (int)(code & 1), s->neg, mode));
  }
  if (f->row0 == 1) { /* no zero: what is below the smallest becomes it */
    int under = top < 0 || top + @LOW < emin;
    lost |= under;
    if (under) code = 0;
  }
  if (f->row0 == 2 && code >> m == 0) {
    lost |= code != 0;
    code = 0;
  }
  if (code > f->max_code) return @beyond(s->neg, 0, f, ieee ? mode : @RNE, overflow);
  if (lost) @flags |= @INEXACT | (top >= 0 && @tiny(top + @LOW, w, top, s->neg, f, mode, random) ? @UNDERFLOW : 0);
  if (code == 0 && f->nan == 3) return 0;
  return s->neg ? @sign_bit(f) | code : code;
}

/* A finite sum of at most @SIG_BITS significant bits as a number. */
static inline @num @sum_number(const @sum *s) {
  @num n = @zero();
  uint32_t w[@LIMBS];
  int low = -1;
  n.kind = s->kind;
  n.neg = s->kind == @NAN ? 0 : s->neg;
  if (s->kind != @NUM) return n;
  @magnitude(s, w);
  for (int i = 32 * @LIMBS - 1; i >= 0; i--)
    if (w[i / 32] >> (i % 32) & 1) low = i;
  if (low < 0) return n;
  n.lsb = low + @LOW;
  for (int i = 0; i < @SIG_BITS && low + i < 32 * @LIMBS; i++)
    n.sig |= (@sig)(w[(low + i) / 32] >> ((low + i) % 32) & 1) << i;
  return n;
}

/* s rounded to a multiple of 2^lsb, its sign kept on zero. */
static inline void @sum_grid(@sum *s, int lsb, int mode) {
  uint32_t w[@LIMBS];
  int cut = lsb - @LOW, half, rest = 0, odd, neg = s->neg;
  if (s->kind != @NUM || cut <= 0) return;
  @magnitude(s, w);
  if (cut >= 32 * @LIMBS) cut = 32 * @LIMBS - 1;
  half = (int)(w[(cut - 1) / 32] >> ((cut - 1) % 32) & 1);
  odd = (int)(w[cut / 32] >> (cut % 32) & 1);
  for (int i = 0; i < cut; i++) {
    if (i < cut - 1) rest |= (int)(w[i / 32] >> (i % 32) & 1);
    w[i / 32] &= ~((uint32_t)1 << (i % 32));
  }
  if (half || rest) @flags |= @INEXACT;
  uint64_t carry = @round_up(half, rest, odd, neg, mode) ? (uint64_t)1 << (cut % 32) : 0;
  for (int i = cut / 32; i < @LIMBS; i++) {
    carry += w[i];
    w[i] = (uint32_t)carry;
    carry >>= 32;
  }
  carry = 1;
  for (int i = 0; i < @LIMBS; i++) {
    carry += (uint32_t)~w[i];
    s->w[i] = neg ? (uint32_t)carry : w[i];
    carry >>= 32;
  }
}

/* s wrapped or saturated to a two's complement integer of `width` bits times 2^lsb. */
static inline void @sum_fit(@sum *s, int lsb, int width, int overflow) {
  int low = lsb - @LOW, sign = low + width - 1, minus = (int)(s->w[@LIMBS - 1] >> 31), out = 0;
  if (s->kind != @NUM) return;
  for (int i = sign; i < 32 * @LIMBS; i++) out |= (int)(s->w[i / 32] >> (i % 32) & 1) != minus;
  if (!out) return;
  @flags |= @OVERFLOW | @INEXACT;
  int fill = overflow == @SATURATE ? minus : (int)(s->w[sign / 32] >> (sign % 32) & 1);
  for (int i = 0; i < 32 * @LIMBS; i++) {
    uint32_t bit = (uint32_t)1 << (i % 32);
    int value = fill;
    if (i < sign) {
      if (overflow != @SATURATE) continue;
      value = i >= low && !minus;
    }
    s->w[i / 32] = value ? s->w[i / 32] | bit : s->w[i / 32] & ~bit;
  }
  s->neg = (int)(s->w[@LIMBS - 1] >> 31);
}

static inline @num @grid(@num n, int lsb, int mode) {
  int drop = lsb - n.lsb, half, up;
  uint64_t random = @next_random(mode);
  @sig below, kept;
  if (n.kind != @NUM || !n.sig || drop <= 0) return n;
  half = drop <= @SIG_BITS ? (int)(n.sig >> (drop - 1) & 1) : 0;
  below = drop > @SIG_BITS ? n.sig : n.sig & (((@sig)1 << (drop - 1)) - 1);
  kept = drop < @SIG_BITS ? n.sig >> drop : 0;
  if (half || below) @flags |= @INEXACT;
  up = @round_up(half, below != 0, (int)(kept & 1), n.neg, mode);
  if (mode == @SR) {
    uint32_t w[@LIMBS];
    @sum s;
    @sum_add(&s, n, 0, 1);
    @magnitude(&s, w);
    up = @random_up(w, lsb - @LOW, random);
  }
  n.sig = kept + (@sig)up;
  n.lsb = lsb;
  return n;
}

static inline uint64_t @round(@num n, const @fmt *f, int mode, int overflow) {
  @sum s;
  @sum_add(&s, n, 0, 1);
  return @encode(&s, f, mode, overflow, 1);
}

/* Bits lsb .. lsb + width - 1 of a vector of 32-bit words, width at most 64. */
static inline uint64_t @bits(const uint32_t *v, int lsb, int width) {
  uint64_t x = 0;
  for (int i = 0; i < width; i++) x |= (uint64_t)(v[(lsb + i) / 32] >> ((lsb + i) % 32) & 1) << i;
  return x;
}
