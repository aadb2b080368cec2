# SPDX-License-Identifier: Apache-2.0
"""Evaluation text, windows and perplexity."""

from __future__ import annotations

import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
gguf = pytest.importorskip("gguf", reason="gguf is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")


from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.bridge.measure import text as text_module  # noqa: E402
from fpsim.bridge.measure.perplexity import perplexity  # noqa: E402
from fpsim.bridge.measure.text import read_text, text_windows, topics_text, windows  # noqa: E402

# ------------------------------------------------------------------------------- text and windows


def test_topics_text_is_every_topic_in_key_order() -> None:
    from pydoc_data.topics import topics

    text = topics_text()
    assert text.startswith(topics[min(topics)])
    assert text.endswith("\n" + topics[max(topics)])
    assert len(text) == sum(map(len, topics.values())) + len(topics) - 1


class Letters:
    """A tokenizer of letters, which may put a token before a text."""

    def __init__(self, begin: int | None, puts: bool) -> None:
        self.bos_token_id, self.puts = begin, puts

    def __call__(self, text: str, add_special_tokens: bool = True, **_: object) -> Any:
        first = [self.bos_token_id] if self.puts and add_special_tokens else []
        return {"input_ids": first + [ord(letter) for letter in text]}


@pytest.mark.parametrize(("begin", "puts"), [(7, True), (7, False), (None, False)])
@pytest.mark.parametrize("between", [False, True])
def test_windows_begin_as_the_tokenizer_begins_a_text(
    begin: int | None, puts: bool, between: bool
) -> None:
    tokenizer: Any = Letters(begin, puts)
    found = text_windows(tokenizer, "abcdefghijklmnopqrst", 2, 3, 8, between=between)
    rows = ["efg", "mno"] if between else ["abc", "ijk"]
    expected = [[ord(letter) for letter in row] for row in rows]
    if puts:
        expected = [[7, *row[1:]] for row in expected]
    assert found.tolist() == expected


def test_topics_text_does_not_depend_on_the_order_of_the_dict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text_module, "topics", {"b": "second\n", "a": "first"})
    assert topics_text() == "first\nsecond\n"


def test_read_text(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes("\ufeffzwölf\r\nzeilen\n".encode())
    assert read_text(path) == "zwölf\r\nzeilen\n"
    assert read_text(str(path)) == read_text(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"text file .*t\.txt does not exist"),
        (b"", r"text file .*t\.txt is empty"),
        (b" \n\t\n", r"text file .*t\.txt is empty"),
        (b"caf\xe9 noir", r"text file .*t\.txt is not UTF-8: byte 3 is 0xe9"),
    ],
)
def test_read_text_refuses(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "t.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FpsimError, match=message):
        read_text(path)


def test_a_text_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "MAX_TEXT", 1 << 16)
    with pytest.raises(FpsimError, match="/dev/zero: more than 65536 bytes"):
        read_text("/dev/zero")


def test_read_text_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FpsimError, match=r"cannot be read \(Is a directory\)"):
        read_text(tmp_path)


def test_windows_start_at_multiples_of_the_stride() -> None:
    cut = windows(range(15512))
    assert cut.shape == (4, 512)
    assert cut.dtype == np.int64
    for start, window in zip((0, 5000, 10000, 15000), cut, strict=True):
        np.testing.assert_array_equal(window, np.arange(start, start + 512))
    np.testing.assert_array_equal(windows([7, 8, 9], 2, 2, 1), [[7, 8], [8, 9]])


def test_windows_of_a_text_one_token_too_short() -> None:
    with pytest.raises(FpsimError, match="text has 15511 tokens, but 15512 are needed"):
        windows(range(15511))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "^windows is 0, but must be at least 1"),
        ({"length": 1}, "^window is 1, but must be at least 2"),
        ({"stride": 0}, "stride is 0, but must be at least 1"),
    ],
)
def test_windows_refuses(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(FpsimError, match=message):
        windows(range(20000), **arguments)


# ------------------------------------------------------------------------------------ perplexity


class Bigram(torch.nn.Module):
    """A language model whose next-token distribution is a row of a table."""

    def __init__(self, probabilities: np.ndarray) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor(probabilities, dtype=torch.float64).log())
        self.eval()

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        assert input_ids.shape[0] == 1
        assert not use_cache
        assert not torch.is_grad_enabled()
        return SimpleNamespace(logits=self.table[input_ids])


def test_perplexity_of_a_known_distribution() -> None:
    rng = np.random.default_rng(1)
    table = rng.dirichlet(np.ones(7), size=7)
    cut = rng.integers(0, 7, (3, 50))
    nll = [-np.log(table[w[:-1], w[1:]]).mean() for w in cut]
    calls: list[tuple[int, int]] = []
    started = time.perf_counter()
    result = perplexity(Bigram(table), cut, lambda done, total: calls.append((done, total)))
    assert result.nll == pytest.approx(nll, rel=1e-6)
    assert result.perplexity == pytest.approx(np.exp(np.mean(nll)), rel=1e-6)
    assert result.tokens == 3 * 49
    assert 0 < result.seconds < time.perf_counter() - started
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_perplexity_of_an_impossible_or_undefined_token() -> None:
    cut = np.zeros((1, 5), dtype=np.int64)
    assert perplexity(Bigram(np.array([[0.0, 1.0], [0.5, 0.5]])), cut).perplexity == math.inf
    assert math.isnan(perplexity(Bigram(np.full((2, 2), np.nan)), cut).perplexity)
    tiny = np.array([[1e-320, 1.0], [0.5, 0.5]])
    assert perplexity(Bigram(tiny), cut).perplexity == math.inf  # exp(737) is beyond float64


def test_perplexity_refuses() -> None:
    model = Bigram(np.full((2, 2), 0.5))
    for shape in ((0, 5), (3, 1), (5,)):
        with pytest.raises(FpsimError, match="windows has shape"):
            perplexity(model, np.zeros(shape, dtype=np.int64))
    with pytest.raises(FpsimError, match="training mode"):
        perplexity(model.train(), np.zeros((1, 5), dtype=np.int64))
