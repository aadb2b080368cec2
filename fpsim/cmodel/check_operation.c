/* Compares every vector of a vectors.hex with the model: cc this file, ./a.out vectors.hex.
   Exit status 0: all match; 1: a mismatch, named on standard error; 2: a file that is no vectors. */
#include <stdio.h>
#include <string.h>
#include "$HEADER$"

#define DIGITS (($WORD_BITS$ + 3) / 4)
#define WORDS ($WORD_BITS$ / 32 + 2)

static const char expected_set[] =
    "this program checks vectors (schema 3) of $TITLE$;\n"
    "fpsim vectors --op $TITLE$ --out DIR writes such a set";

static void codes(const uint32_t *word, int lsb, int lanes, int width, uint64_t *out) {
  for (int i = 0; i < lanes; i++) out[i] = @bits(word, lsb + i * width, width);
}

static int differs(const char *path, long number, const char *name, int lanes, const uint64_t *found,
                   const uint64_t *expected) {
  for (int i = 0; i < lanes; i++)
    if (found[i] != expected[i]) {
      fprintf(stderr, "%s:%ld: %s[%d] expects %llx, the C model gives %llx\n", path, number, name, i,
              (unsigned long long)expected[i], (unsigned long long)found[i]);
      return 1;
    }
  return 0;
}

int main(int argc, char **argv) {
  static char line[DIGITS + 4096];
$DECLARATIONS$  long number = 0, count = 0;
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
$READ$    $CALL$;
    if ($COMPARE$) {
      fclose(file);
      return 1;
    }
    count++;
  }
  fclose(file);
  printf("%ld vectors match\n", count);
  return count ? 0 : 2;
}
