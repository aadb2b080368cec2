/* What converters, adders, multipliers and quantizers share. */

/* The code of a number rounded once to a floating-point format, unsigned ones and those without a
   zero, too. */
static inline uint64_t @to_float(const @sum *s, const @fmt *f, int mode, int overflow) {
  @sum t = *s;
  unsigned before = @flags;
  uint64_t code;
  if (f->is_signed || !s->neg || s->kind == @NAN) return @encode(&t, f, mode, overflow, 1);
  code = @encode(&t, f, mode, @SATURATE, 1);
  if (s->kind == @NUM && code == 0 && (f->row0 != 1 || @sum_is_zero(s))) return code;
  @flags = before | (s->kind == @INF ? @INVALID : @OVERFLOW | @INEXACT);
  return overflow == @SATURATE ? 0 : f->nan_code;
}

static inline uint64_t @narrow(@num n, const @fmt *f, int mode, int overflow) {
  @sum s;
  @sum_add(&s, n, 0, 1);
  return @to_float(&s, f, mode, overflow);
}

/* The integer of a number that is rounded to a multiple of 2^lsb, in `width` bits. */
static inline uint64_t @to_fixed(@num n, int lsb, uint64_t top, uint64_t bottom, int width, int mode,
                                 int overflow) {
  uint64_t mask = ((uint64_t)1 << width) - 1, limit = n.neg ? bottom : top, magnitude = 0;
  int shift, out;
  if (n.kind != @NUM) {
    @flags |= @INVALID;
    return (n.kind == @NAN ? 0 : n.neg ? ~bottom + 1 : top) & mask;
  }
  unsigned before = @flags;
  n = @grid(n, lsb, mode);
  shift = n.lsb - lsb;
  out = n.sig && (shift > 62 || (n.sig >> (62 - shift)) != 0);
  if (n.sig && shift < 64) magnitude = (uint64_t)n.sig << shift;
  if (out || magnitude > limit) {
    @flags = before | @OVERFLOW | @INEXACT;
    if (overflow == @SATURATE) magnitude = limit;
  }
  return (n.neg ? ~magnitude + 1 : magnitude) & mask;
}
