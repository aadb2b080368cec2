# SPDX-License-Identifier: Apache-2.0
"""What a conversion says of itself: units, shares, dependence on other tokens, recipes of one's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from torch import nn  # noqa: E402

from fpsim import get_block_format, get_unit  # noqa: E402
from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.bridge import (  # noqa: E402
    conversion_of,
    convert,
    convert_again,
    evaluate,
    get_recipe,
    mac_share,
    restore,
)
from fpsim.bridge.measure.models import LoadedModel, load  # noqa: E402
from fpsim.bridge.measure.perplexity import perplexity  # noqa: E402
from fpsim.bridge.saved_conversion import CONFIG_KEY  # noqa: E402

LENGTH = 20
IDS = torch.arange(1, LENGTH + 1)[None]


def tiny_llama(**changes: Any) -> nn.Module:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 97, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    } | changes  # fmt: skip
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.2)
    return model


@torch.no_grad()
def logits(model: nn.Module, ids: torch.Tensor = IDS, **more: Any) -> torch.Tensor:
    return model(input_ids=ids, use_cache=False, **more).logits


# -- units and shares ----------------------------------------------------------------------------


def test_units_are_named_as_derived() -> None:
    model = convert(tiny_llama(), "mxfp4", "e4m3fn-chain-e5m10")
    record = conversion_of(model)
    assert record.units == ("e2m1-chain-e5m10",)
    assert "e2m1-chain-e5m10" in str(record) and "e4m3fn" not in str(record)
    restore(model)
    assert conversion_of(convert(model, "mxfp4-weights")).units == ()


#: Multiply-accumulates of the tiny model per token: its linear layers, and its lm_head.
LINEAR = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96)
HEAD = 64 * 97


def test_share_of_the_multiply_accumulates() -> None:
    model = tiny_llama()
    scores = 2 * 2 * LENGTH * LENGTH * 64  # layers, products, tokens by tokens, width
    plain = mac_share(model, {"input_ids": IDS})
    assert plain.simulated == 0 and plain.share == 0.0
    assert plain.total == LENGTH * (LINEAR + HEAD) + scores
    convert(model, "mxfp4")
    share = mac_share(model, {"input_ids": IDS})
    assert share.simulated == LENGTH * LINEAR and share.total == plain.total
    assert share.rest == {"lm_head": LENGTH * HEAD, "model.layers.*.self_attn": scores}
    assert "lm_head" in str(share)
    assert conversion_of(model).weights == (LINEAR, LINEAR + HEAD)
    restore(model)
    convert(model, "mxfp4:quantize_attention=true")
    both = mac_share(model, {"input_ids": IDS})
    assert both.simulated == LENGTH * LINEAR + scores
    assert both.rest == {"lm_head": LENGTH * HEAD}


def test_counting_changes_no_bit() -> None:
    model = convert(tiny_llama(), "mxfp4")
    wanted = logits(model)
    from fpsim.bridge.measure.macs import counted

    with counted(model):
        assert torch.equal(logits(model), wanted)


def test_evaluation_reports_baseline_share_and_notes() -> None:
    loaded = LoadedModel(tiny_llama(), None, "tiny")
    windows = np.stack([np.arange(1, 21), np.arange(31, 51)])
    steps: list[tuple[int, int]] = []
    found = evaluate(
        loaded, windows, "nvfp4", "e4m3fn-chain-e8m23", lambda i, n: steps.append((i, n)),
        baseline=True, causal=True,
    )  # fmt: skip
    assert steps == [(i, 6) for i in (0, 1, 2, 2, 3, 4, 4, 5, 6)]
    data = found.as_dict()
    assert data["float_perplexity"] == perplexity(loaded.model, windows).perplexity
    assert data["unit"] == "e2m1.e4m3fn-chain-e8m23" and "nvfp4" in str(found)
    assert data["macs"]["share"] == pytest.approx(0.86, abs=0.1)
    assert any("a scale is shared by all tokens" in note for note in data["notes"])
    assert data["causal_perplexity"] != data["perplexity"]
    assert "token by token" in str(found) and "float32" in str(found)


def test_a_register_without_fraction_bits_is_pointed_out() -> None:
    model = tiny_llama()
    assert any(
        "q20" in note for note in conversion_of(convert(model, "mxfp4", "e2m1-fixed24q2")).notes
    )
    restore(model)
    assert not conversion_of(convert(model, "mxfp4", "e2m1-fixed40q20")).notes
    restore(model)
    assert not conversion_of(convert(model, "int4", "int4s-fixed24q0")).notes


# -- other tokens --------------------------------------------------------------------------------

DEPENDENCE = {
    "mxfp4": (True, True), "int4": (True, True), "mxfp4:quantize_attention=true": (False, True),
    "amxfp4-linear": (True, True), "amxfp4": (False, True), "amxfp4:value_axis=token": (True, True),
    "nvfp4": (False, False), "four-over-six": (False, False), "rtn:block=tensor": (False, False),
}  # fmt: skip


@pytest.mark.parametrize("recipe", DEPENDENCE)
def test_causal_and_batch_independent_are_what_the_logits_show(recipe: str) -> None:
    causal, alone = DEPENDENCE[recipe]
    model = convert(tiny_llama(), recipe)
    record = conversion_of(model)
    assert (record.causal, record.batch_independent) == (causal, alone)
    ids = torch.randint(1, 97, (1, 40), generator=torch.Generator().manual_seed(4))
    other = torch.cat([ids[:, :30], 97 - ids[:, 30:]], 1)
    moved = (logits(model, ids) - logits(model, other))[:, :30].abs().max()
    assert (moved < 1e-4) == causal
    both = torch.cat([ids, 97 - ids])
    moved = (logits(model, ids) - logits(model, both)[:1]).abs().max()
    assert (moved < 1e-4) == alone


@pytest.mark.parametrize("recipe", ["mxfp4", "amxfp4", "nvfp4"])
def test_token_by_token_no_scale_has_seen_the_future(recipe: str) -> None:
    """Logits stay, bit for bit, whatever the later tokens are."""
    model = convert(tiny_llama(), recipe)
    window = np.random.default_rng(1).integers(1, 97, (1, 10))
    changed = window.copy()
    changed[:, 8:] = 97 - changed[:, 8:]
    rows: list[torch.Tensor] = []
    handle = model.lm_head.register_forward_hook(lambda _, __, out: rows.append(out[0, -1]))
    whole = perplexity(model, window, causal=True).nll[0]
    other = perplexity(model, changed, causal=True).nll[0]
    handle.remove()
    assert len(rows) == 18 and whole != other
    assert all(torch.equal(a, b) for a, b in zip(rows[:8], rows[9:17], strict=True))
    assert not torch.equal(rows[8], rows[17])
    once = perplexity(model, window).nll[0]
    assert (once == pytest.approx(whole, rel=1e-5)) == (recipe == "mxfp4")


# -- recipes of one's own ------------------------------------------------------------------------


def test_a_block_format_is_a_recipe(tmp_path: Any) -> None:
    fmt = get_block_format("mxfp4")
    mine = type(fmt)("my16", "e2m1", 16)
    path = tmp_path / "my16.toml"
    path.write_text(mine.to_toml())
    model = tiny_llama()
    wanted = logits(convert(model, mine))
    assert conversion_of(model).recipe == "my16"
    restore(model)
    assert torch.equal(logits(convert(model, str(path))), wanted)
    restore(model)
    assert torch.equal(logits(convert(model, f"{path}:quantize_attention=false")), wanted)
    restore(model)
    assert torch.equal(logits(convert(model, fmt)), logits(convert(tiny_llama(), "mxfp4")))
    assert get_recipe(mine).weight("x").quantize(np.ones((1, 32), np.float32)).block == 16
    with pytest.raises(FpsimError, match="cannot be read"):
        get_recipe(str(tmp_path / "none.toml"))


MINE = """
from dataclasses import dataclass
from fpsim.bridge.cast import BlockCast
from fpsim.bridge.recipe import Recipe
from fpsim.blocks.block_format import get_block_format

@dataclass(frozen=True)
class Mine(Recipe):
    block: int = 32

    def weight(self, layer):
        return BlockCast(get_block_format({"name": "m"} and "mxfp4"))

    def activation(self, layer):
        return self.weight(layer)

class Half(Recipe):
    def weight(self, layer):
        return None
"""


def test_a_recipe_class_in_a_file(tmp_path: Any) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    assert torch.equal(
        logits(convert(tiny_llama(), f"{path}:Mine")), logits(convert(tiny_llama(), "mxfp4"))
    )
    assert get_recipe(f"{path}:Mine:block=16").block == 16
    for text, message in (
        (f"{path}:Other", "has no class Other derived from Recipe"),
        (f"{path}:Half", "Half does not define activation"),
        (f"{path}:Mine:size=3", "option: 'size' is not one of"),
        (f"{tmp_path}/none.py:Mine", "does not exist"),
    ):
        with pytest.raises(FpsimError, match=message):
            get_recipe(text)
    path.write_text("1 / 0")
    with pytest.raises(FpsimError, match="cannot be executed: ZeroDivisionError"):
        get_recipe(f"{path}:Mine")


def test_a_saved_model_says_how_it_was_converted(tmp_path: Any) -> None:
    model = convert(tiny_llama(), "mxfp4", "e2m1-chain-e5m10")
    wanted = logits(model)
    model.save_pretrained(tmp_path)
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval()
    how = getattr(again.config, CONFIG_KEY)
    assert how == {"recipe": "mxfp4", "unit": "e2m1-chain-e5m10", "seed": 0}
    assert torch.equal(logits(convert(again, **how)), wanted)
    restore(model)
    assert not hasattr(model.config, CONFIG_KEY)


class OwnUnits:
    """A unit by a name that nobody else knows."""

    spec = get_unit("e2m1-chain-e5m10-rtz").spec
    named = replace(spec, name="my-mac")


@pytest.mark.parametrize(
    "given",
    [
        {
            "recipe": replace(get_block_format("mxfp4"), name="mine16", block=16),
            "unit": OwnUnits.named,
        },
        {"recipe": get_recipe("rtn", element="e3m0", block=32), "unit": "exact", "skip": ["*mlp*"]},
        {"recipe": "mxfp4-rceil-weights", "unit": "exact", "only": ["*q_proj"]},
        {"recipe": "mxfp4", "unit": "e2m1-chain-e4m3-sr4", "seed": 3, "transforms": "hadamard"},
    ],
    ids=lambda given: "-".join(given),
)
def test_a_loaded_model_is_converted_again_as_it_was(given: dict[str, Any], tmp_path: Any) -> None:
    model = convert(tiny_llama(), **given)
    wanted, before = logits(model), conversion_of(model)
    model.save_pretrained(tmp_path)
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval()
    assert not torch.equal(logits(again), wanted)
    assert torch.equal(logits(convert_again(again)), wanted)
    after = conversion_of(again)
    assert (after.replaced, after.units, after.recipe) == (
        before.replaced, before.units, before.recipe,
    )  # fmt: skip


def test_a_model_that_was_not_converted_cannot_be_converted_again() -> None:
    with pytest.raises(FpsimError, match="its config does not say how it was converted"):
        convert_again(tiny_llama())


def test_folders_say_what_they_lack(tmp_path: Any) -> None:
    convert(tiny_llama(), "mxfp4").save_pretrained(tmp_path)
    with pytest.raises(FpsimError, match="has no tokenizer that transformers can read"):
        load(tmp_path)
