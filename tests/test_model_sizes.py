"""Sizes that cannot be true are refused before anything of that size is built."""

import json
import resource
import shutil
import struct

import pytest
import torch

transformers = pytest.importorskip("transformers")

import world  # noqa: E402

from samplewise.core.errors import SamplewiseError  # noqa: E402
from samplewise.data import Document  # noqa: E402
from samplewise.evidence.initial_model import random_model, train_tokenizer  # noqa: E402
from samplewise.models import load_model  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return world.save_model(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture(autouse=True)
def bounded():
    """What is built all the same fails at once, and does not take the machine with it."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    if torch.cuda.is_available():  # which takes more addresses than that
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (24 * 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


ABSURD = {
    "num_hidden_layers": 10**9,
    "hidden_size": 10**12,
    "vocab_size": 10**11,
    "intermediate_size": 10**10,
    "num_attention_heads": 10**9,
}


@pytest.mark.parametrize("key", ABSURD)
@pytest.mark.parametrize("kind", ["llama", "qwen2"])  # the second makes a list of its layers
def test_an_absurd_size_in_a_config_is_named(folder, tmp_path, key, kind):
    shutil.copytree(folder, tmp_path / "m")
    config = tmp_path / "m" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": kind, key: ABSURD[key]}))
    with pytest.raises(SamplewiseError, match=rf"{key} of at most .*config.json"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize(("key", "value", "match"), [
    ("num_hidden_layers", 5000, "layers, as many as there are tensors"),
    ("vocab_size", 10**8, "no matrix of more numbers"),
    ("intermediate_size", 10**7, "no matrix of more numbers"),
])  # fmt: skip
def test_a_config_that_the_weights_cannot_fill_is_refused(folder, tmp_path, key, value, match):
    shutil.copytree(folder, tmp_path / "m")
    config = tmp_path / "m" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), key: value}))
    with pytest.raises(SamplewiseError, match=match):
        load_model(tmp_path / "m")


def test_sizes_left_out_are_a_large_models_and_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    with pytest.raises(SamplewiseError, match=r"as many as there are tensors|no matrix of more numbers"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("config", [
    {"model_type": "llama", "num_hidden_layers": 10**9},
    {"model_type": "qwen2", "num_hidden_layers": 10**9},
    {"model_type": "gpt2", "n_layer": 10**9},
    {"model_type": "llama", "hidden_size": 2**20, "intermediate_size": 2**22, "num_hidden_layers": 9},
    {"model_type": "gpt2", "n_embd": 10**6, "n_layer": 1000},
])  # fmt: skip
def test_a_model_from_scratch_must_fit_into_the_memory(folder, config):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with pytest.raises(SamplewiseError, match=r"model\.config"):
        random_model(config, tokenizer, 0)


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _gguf(path, tensors=(), **numbers):
    fields = [_string("general.architecture") + struct.pack("<I", 8) + _string("llama")]
    fields += [_string(f"llama.{key}") + struct.pack("<II", 4, value) for key, value in numbers.items()]
    infos = [_string(name) + struct.pack("<IQQIQ", 2, *shape, 0, 0) for name, shape in tensors]
    path.write_bytes(
        b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(fields)) + b"".join([*fields, *infos]) + b"\0" * 4096
    )
    return path


EMBEDDING = [("token_embd.weight", (8, 64))]


@pytest.mark.parametrize(("tensors", "numbers", "match"), [
    ([], {}, "no tensors"),
    ([], {"block_count": 2, "embedding_length": 8}, "no tensors"),
    (EMBEDDING, {}, "no llama.block_count"),
    (EMBEDDING, {"block_count": 1}, "no llama.embedding_length"),
    (EMBEDDING, {"block_count": 10**9, "embedding_length": 8}, "1,000,000,000 layers in 1 tensors"),
    (EMBEDDING, {"block_count": 1, "embedding_length": 10**9}, "more than the 512 numbers"),
    (EMBEDDING, {"block_count": 1, "embedding_length": 8, "feed_forward_length": 10**9}, "more than the 512 numbers"),
    (EMBEDDING, {"block_count": 1, "embedding_length": 8, "vocab_size": 10**9}, "more than the 512 numbers"),
])  # fmt: skip
def test_a_gguf_file_must_name_sizes_that_its_tensors_have(tmp_path, tensors, numbers, match):
    pytest.importorskip("gguf")
    with pytest.raises(SamplewiseError, match=match):
        load_model(_gguf(tmp_path / "a.gguf", tensors, **numbers))


@pytest.mark.parametrize("size", [0, 257, 2**20 + 1, 10**12, 10**30])
def test_a_vocabulary_is_of_a_size_that_can_be(tmp_path, size):
    with pytest.raises(SamplewiseError, match="258"):
        train_tokenizer([Document("text", "a.txt", 0)], size, tmp_path)
