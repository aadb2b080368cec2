# SPDX-License-Identifier: Apache-2.0
"""`check_c` compiles a function, tries every case, and survives what C can do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from fpsim import FpsimError, get_unit, testing
from fpsim.cmodel import export_c

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler"),
    pytest.mark.usefixtures("one_thread"),
]
UNIT = "e2m1-chain-e4m3"
CONVERTER = """
static const float grid[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
unsigned char convert(float x) {
  float m = __builtin_fabsf(x);
  int code = 0;
  for (int i = 0; i < 7; i++) {
    float middle = (grid[i] + grid[i + 1]) / 2;
    if (m > middle || (m == middle && TIE)) code = i + 1;
  }
  return code | (__builtin_signbit(x) ? 8 : 0);
}
float convert_value(float x) {
  int code = convert(x);
  return code & 8 ? -grid[code & 7] : grid[code];
}
"""


@pytest.fixture
def source(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "function.c"
        path.write_text(text)
        return path

    return write


def test_converters(source: Any) -> None:
    even = source(CONVERTER.replace("TIE", "(i & 1)"))
    assert testing.check_c(even, "convert", format="e2m1")
    assert testing.check_c(even, "convert_value", format="e2m1", returns="values")
    away = source(CONVERTER.replace("TIE", "1"))
    result = testing.check_c(away, "convert", format="e2m1", sanitize=("undefined",))
    assert not result
    assert result.mistakes[0].name == "ties went away from zero"
    assert result.subject == "function.c:convert"


def test_the_exported_model_holds_on_every_case(source: Any, tmp_path: Path) -> None:
    export_c(get_unit(UNIT), tmp_path / "model.h")
    text = """#include "model.h"
    uint8_t mac(uint8_t a, uint8_t b, uint8_t c) {
      uint64_t x = a, y = b;
      return (uint8_t)fpsim_e2m1_chain_e4m3_dot(&x, &y, NULL, NULL, 1, 1, WHAT);
    }"""
    result = testing.check_c(source(text.replace("WHAT", "c")), "mac", unit=UNIT)
    assert result
    assert result.tried == 1 << 16
    wrong = testing.check_c(source(text.replace("WHAT", "0")), "mac", unit=UNIT)
    assert not wrong
    assert wrong.mistakes[0].name == "the addend were ignored"


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("int f(float x) { int zero = 0; volatile int *at = x == 1.0f ? 0 : &zero; return *at; }",
         {}, r"f\(1\) crashed \(signal 11\)"),
        ("int f(float x) { while (x == 1.0f); return 0; }", {"timeout": 3.0}, "did not end within"),
        ("int f(float x) { volatile int big = 1 << 30, r = x == 1.0f ? big * 4 : 0; return r & 0; }",
         {"sanitize": ("undefined",)}, "runtime error: signed integer overflow"),
        ("#include <stdlib.h>\nint f(float x) { if (x == 1.0f) exit(7); return 0; }", {},
         r"f\(1\) ended the process with status 7"),
    ],
)  # fmt: skip
def test_what_c_can_do_is_one_sentence(source: Any, text: str, options: Any, words: str) -> None:
    with pytest.raises(testing.ContractError, match=words) as error:
        testing.check_c(source(text), "f", format="e2m1", inputs="e4m3fn", **options)
    assert "\n" not in str(error.value)


def test_bad_arguments(source: Any, tmp_path: Path) -> None:
    file = source("int f(float x) { return y; }")
    with pytest.raises(FpsimError, match=r"does not compile with f: .*error: 'y' undeclared"):
        testing.check_c(file, "f", format="e2m1")
    with pytest.raises(FpsimError, match=r"does not compile with g: .*undefined reference to .g'"):
        testing.check_c(source("int f(float x) { return 0; }"), "g", format="e2m1")
    with pytest.raises(FpsimError, match="give either a unit"):
        testing.check_c(file, "f")
    with pytest.raises(FpsimError, match="'f;' is not a C name"):
        testing.check_c(file, "f;", format="e2m1")
    with pytest.raises(FpsimError, match=r"missing\.c does not exist"):
        testing.check_c(tmp_path / "missing.c", "f", format="e2m1")
