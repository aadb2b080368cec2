/* Compares every vector of a vectors.hex with the model: cc this file, ./a.out vectors.hex.
   Exit status 0: all match; 1: a mismatch, named on standard error; 2: a file that is no vectors. */
#include <stdio.h>
#include <string.h>
#include "$HEADER$"

#define DIGITS (($WORD_BITS$ + 3) / 4)
#define WORDS ($WORD_BITS$ / 32 + 2)

/* A set of another record has other words. */
static const char expected_set[] =
    "this program checks vectors (schema 3) of $UNIT$: $RECORD$;\n"
    "fpsim vectors $OPTIONS$ --out DIR writes such a set, and the\n"
    "--k, --group and --flags of fpsim export-c make a program for another";

static void codes(const uint32_t *word, int lsb, int lanes, int width, uint64_t *out) {
  for (int i = 0; i < lanes; i++) out[i] = @bits(word, lsb + i * width, width);
}

int main(int argc, char **argv) {
  static char line[DIGITS + 4096];
  static uint64_t a[$A_LANES$], b[$B_LANES$], sa[$A_SCALE_LANES$ + 1], sb[$B_SCALE_LANES$ + 1];$RANDOM_DECLARATION$
  uint64_t acc = 0;
  long number = 0, count = 0;
  FILE *file = argc == 2 ? fopen(argv[1], "r") : NULL;
  if (file == NULL) {
    fprintf(stderr, "usage: %s vectors.hex\n", argv[0]);
    return 2;
  }
  while (fgets(line, (int)sizeof line, file) != NULL) {
    uint32_t word[WORDS] = {0};
    number++;
    if (strncmp(line, "//", 2) == 0) continue;
    if (strspn(line, "0123456789abcdef") != DIGITS) {
      fprintf(stderr, "%s:%ld: not a word of %d digits\n%s\n", argv[1], number, DIGITS, expected_set);
      fclose(file);
      return 2;
    }
    for (int i = 0; i < DIGITS; i++) {
      char digit = line[DIGITS - 1 - i];
      uint32_t value = (uint32_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
      word[i / 8] |= value << (4 * (i % 8));
    }
    codes(word, $A_LSB$, $A_LANES$, $A_WIDTH$, a);
    codes(word, $B_LSB$, $B_LANES$, $B_WIDTH$, b);
    codes(word, $A_SCALE_LSB$, $A_SCALE_LANES$, $A_SCALE_WIDTH$, sa);
    codes(word, $B_SCALE_LSB$, $B_SCALE_LANES$, $B_SCALE_WIDTH$, sb);
$RANDOM_READ$    uint64_t c = @bits(word, $C_LSB$, $C_WIDTH$), expected = @bits(word, $ACC_LSB$, $ACC_WIDTH$);
    const uint64_t *a_scale = $A_SCALE_LANES$ ? sa : NULL, *b_scale = $B_SCALE_LANES$ ? sb : NULL;
    @flags = 0;
    switch (@bits(word, $OP_LSB$, $OP_WIDTH$)) {
      case 0: break;
      case 1: acc = 0; break;
      case 2: acc = @dot(a, b, a_scale, b_scale, $K$, $GROUP$, acc$RANDOM_ARGUMENT$); break;
      case 3: acc = c; break;
      case 4: acc = @dot(a, b, a_scale, b_scale, $K$, $GROUP$, c$RANDOM_ARGUMENT$); break;
      default:
        fprintf(stderr, "%s:%ld: its first field is no operation (0 to 4)\n", argv[1], number);
        fclose(file);
        return 2;
    }
    if (acc != expected) {
      fprintf(stderr, "%s:%ld: expects %llx, the C model gives %llx\n", argv[1], number,
              (unsigned long long)expected, (unsigned long long)acc);
      fclose(file);
      return 1;
    }
    if ($FLAGS_WIDTH$ && @flags != @bits(word, $FLAGS_LSB$, $FLAGS_WIDTH$)) {
      fprintf(stderr, "%s:%ld: expects flags %llx, the C model gives %x\n", argv[1], number,
              (unsigned long long)@bits(word, $FLAGS_LSB$, $FLAGS_WIDTH$), @flags);
      fclose(file);
      return 1;
    }
    count++;
  }
  fclose(file);
  printf("%ld vectors match\n", count);
  return count ? 0 : 2;
}
