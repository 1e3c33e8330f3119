"""A model from a folder or a GGUF file trains, saves and comes back equal; whatever is no causal model says so."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")

from samplewise.core.errors import SamplewiseError  # noqa: E402
from samplewise.corpus.fingerprints import fingerprint_tokenizer  # noqa: E402
from samplewise.data import Document, PadCollator, WindowDataset, cut_windows  # noqa: E402
from samplewise.models import load_model, native_bfloat16  # noqa: E402
from samplewise.models.load import load_tokenizer  # noqa: E402

TEXTS = ["In 2024  there were 1,234 cats.", "\n\n1. the  12 mats\n\n 2. that   3", "   007\tof 9"]
SPECIAL = ["<unk>", "<s>", "</s>"]
WIDTH, HEADS, KV_HEADS = 64, 4, 2


def make_tokenizer(pad=None):
    """As SmolLM2's: single digits, then GPT-2's split."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    backend.train_from_iterator(TEXTS * 9 + ["  \n\n   \n\n  "] * 9, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token=pad
    )


def make_model(tokenizer, kind=None, **options):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, max_position_embeddings=128,
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, **options,
    )  # fmt: skip
    return (kind or transformers.LlamaForCausalLM)(config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("folder")
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(path)
    make_model(tokenizer).save_pretrained(path)
    return path


def permuted(weight, heads):
    """Rows as llama.cpp orders them for its rotary embedding."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, WIDTH).transpose(1, 2).reshape(weight.shape)


def write_gguf(path, model, tokenizer, architecture="llama", pre="smollm"):
    """The model in Q4_1, and what each of its parameters is after that, by the library's own arithmetic."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(2)
    writer.add_feed_forward_length(96)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokenizer))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_1)
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    expected = {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight":  # tied
            continue
        heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(name.split(".")[-2])
        data = (permuted(weight, heads) if heads else weight).numpy()
        kind = gguf.GGMLQuantizationType.Q4_1 if weight.dim() == 2 else gguf.GGMLQuantizationType.F32
        stored = gguf.quants.quantize(data, kind)
        there = names.get_name(name.removesuffix(".weight")) + ".weight"
        writer.add_tensor(there, stored, raw_dtype=kind)
        back = torch.from_numpy(gguf.quants.dequantize(stored, kind).copy())
        expected[name] = back.reshape(heads, -1, 2, WIDTH).transpose(1, 2).reshape(back.shape) if heads else back
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


@pytest.fixture(scope="module")
def quantised(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "Tiny.Q4_1.gguf"
    tokenizer = make_tokenizer()
    return path, write_gguf(path, make_model(tokenizer), tokenizer)


def train_one_step(model, tokenizer, path):
    documents = [Document(text * 20, "a.jsonl", row) for row, text in enumerate(TEXTS)]
    arguments = transformers.TrainingArguments(
        output_dir=str(path), use_cpu=True, max_steps=1, learning_rate=1e-2, save_strategy="no", report_to="none",
        disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    transformers.Trainer(
        model, arguments, data_collator=PadCollator(tokenizer.pad_token_id),
        train_dataset=WindowDataset(cut_windows(documents, tokenizer, max_length=64, context=128)),
    ).train()  # fmt: skip


def assert_equal(one, two):
    a, b = one.state_dict(), two.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("route", ["option", "portable"])
def test_a_gguf_file_trains_saves_and_comes_back_equal(quantised, tmp_path, monkeypatch, route):
    path, expected = quantised
    if route == "portable":  # transformers without GgufConfig
        monkeypatch.setattr("samplewise.models.load._dequantise", dict)
    model, tokenizer, description = load_model(path)
    found = model.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert str(description).startswith("Tiny (Q4_1 GGUF, dequantised to float32), 0.1 M parameters, context 128")
    assert description.parameters == sum(weight.numel() for weight in expected.values())
    before = model.model.embed_tokens.weight.detach().clone()
    train_one_step(model, tokenizer, tmp_path)
    assert not torch.equal(before, model.model.embed_tokens.weight)
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    again, tokenizer_again, _ = load_model(tmp_path / "saved")
    assert_equal(model, again)
    assert again.lm_head.weight is again.model.embed_tokens.weight
    assert [tokenizer_again(t)["input_ids"] for t in TEXTS] == [tokenizer(t)["input_ids"] for t in TEXTS]


def test_the_tokenizer_of_a_gguf_file_splits_digits_as_the_model_learned_them(quantised):
    source = make_tokenizer()
    _, tokenizer, description = load_model(quantised[0])
    assert description.note == ""
    plain = {"add_special_tokens": False}
    for text in [*TEXTS, "a" + "".join(TEXTS) * 3, "naïve ☃ ½ ٣"]:
        assert tokenizer(text, **plain)["input_ids"] == source(text, **plain)["input_ids"]
    assert tokenizer.decode(tokenizer(TEXTS[1])["input_ids"]) == TEXTS[1]
    stray = tokenizer("<|endoftext|>")["input_ids"]  # not in this vocabulary, so plain characters
    assert stray == source("<|endoftext|>")["input_ids"]
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
    assert special == (1, 2, 0)


def test_an_unknown_split_rule_is_noted(tmp_path):
    tokenizer = make_tokenizer()
    write_gguf(tmp_path / "a.gguf", make_model(tokenizer), tokenizer, pre="of-tomorrow")
    assert "'of-tomorrow' is not known" in load_model(tmp_path / "a.gguf")[2].note


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_a_folder(folder, dtype):
    model, tokenizer, description = load_model(folder, dtype=dtype)
    assert model.dtype == {"auto": torch.float32}.get(dtype, torch.bfloat16)
    assert (description.dtype, description.quantisation) == (str(model.dtype)[6:], None)
    assert (description.context, description.pad_token) == (128, "</s>")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 2
    assert description.autocast == ("bfloat16" if native_bfloat16() else None)


@pytest.mark.parametrize(
    ("capabilities", "native"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False, "amx_bf16": False}, False),
        ({"architecture": "aarch64", "bf16": True}, True),
        ({}, False),
    ],
)
def test_bfloat16_is_native_where_it_is_faster(monkeypatch, capabilities, native):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert native_bfloat16() is native


def test_a_tokenizer_with_a_pad_token_keeps_it(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    make_tokenizer(pad="<unk>").save_pretrained(tmp_path)
    _, tokenizer, description = load_model(tmp_path)
    assert (tokenizer.pad_token_id, description.pad_token) == (0, None)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_gguf_file_is_an_error(quantised, tmp_path, share):
    data = quantised[0].read_bytes()
    (tmp_path / "a.gguf").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SamplewiseError, match=r"a\.gguf: expected a (whole )?GGUF file"):
        load_model(tmp_path / "a.gguf")


def test_what_is_no_gguf_or_of_another_architecture_is_an_error(tmp_path):
    tokenizer = make_tokenizer()
    write_gguf(tmp_path / "other.gguf", make_model(tokenizer), tokenizer, architecture="rwkv9")
    (tmp_path / "text.gguf").write_text("no model")
    (tmp_path / "old.gguf").write_bytes(b"GGUF" + (1).to_bytes(4, "little") + bytes(16))
    (tmp_path / "folder.gguf").mkdir()
    for name, match in [
        ("other", "architecture is 'rwkv9'"),
        ("text", "another format"),
        ("old", "version 1"),
        ("gone", "no such file"),
        ("folder", "Is a directory"),
    ]:
        with pytest.raises(SamplewiseError, match=match):
            load_model(tmp_path / f"{name}.gguf")


def test_the_tokenizer_of_a_gguf_file_alone_is_that_of_its_model(quantised, monkeypatch):
    path, _ = quantised
    own = load_model(path)[1]
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda **_: pytest.fail("loads the model"))
    alone = load_tokenizer(path)
    assert fingerprint_tokenizer(alone) == fingerprint_tokenizer(own)
    assert alone.pad_token == own.pad_token
    text = "  12 <|endoftext|>\n\n345"
    assert alone(text)["input_ids"] == own(text)["input_ids"]


@pytest.mark.parametrize("module", ["gguf", "transformers"])
def test_a_missing_extra_is_named(quantised, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    for load in (load_model, load_tokenizer):
        with pytest.raises(SamplewiseError, match=rf"the package {module}.*pip install \"samplewise\[hf\]\""):
            load(quantised[0])


def test_a_tokenizer_is_looked_for_where_a_model_would_be(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"")
    for name, match in (("./gone", "no such folder"), (str(tmp_path / "a.bin"), "got a file")):
        with pytest.raises(SamplewiseError, match=match):
            load_tokenizer(name)


def encoder():
    config = transformers.BertConfig(
        vocab_size=99, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    return transformers.BertForMaskedLM(config)


def encoder_decoder():
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=99, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )


def classifier():
    return make_model(make_tokenizer(), transformers.LlamaForSequenceClassification, pad_token_id=2)


@pytest.mark.parametrize(
    ("make", "match"),
    [(encoder, "another task, bert"), (encoder_decoder, "an encoder-decoder, t5"), (classifier, "another task, llama")],
)
def test_other_kinds_of_model_are_errors(tmp_path, make, match):
    make().save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(SamplewiseError, match=match):
        load_model(tmp_path)


def test_incomplete_folders_are_errors(folder, tmp_path):
    def without(*names: str) -> Path:
        path = tmp_path / names[0]
        shutil.copytree(folder, path, ignore=lambda *_: names)
        return path

    with pytest.raises(SamplewiseError, match=r"a folder with config\.json"):
        load_model(without("config.json"))
    with pytest.raises(SamplewiseError, match=r"a folder with config\.json, safetensors weights and a tokenizer"):
        load_model(without("tokenizer.json", "tokenizer_config.json"))
    path = without("model.safetensors")
    torch.save(load_model(folder)[0].state_dict(), path / "pytorch_model.bin")
    with pytest.raises(SamplewiseError, match=r"weights in pickles \(.bin\) are not read"):
        load_model(path)
    (path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(SamplewiseError, match="safetensors weights"):
        load_model(path)


def test_a_tokenizer_of_another_model_is_an_error(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"<extra{i}>" for i in range(9)])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(SamplewiseError, match="a tokenizer with at most"):
        load_model(tmp_path)


@pytest.mark.parametrize("limit", [[], "many", None, True])
def test_a_longest_input_that_is_no_number_is_an_error(folder, tmp_path, limit):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_max_length": limit}))
    for load in (load_model, load_tokenizer):
        if limit is None:  # the same as no entry
            assert load(tmp_path)
            continue
        with pytest.raises(SamplewiseError, match="a number as model_max_length"):
            load(tmp_path)


def test_names_that_lead_nowhere_are_errors(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"")
    for name, match in [
        ("org/not-in-the-cache", "on the hub"),
        ("./gone", "no such folder"),
        (str(tmp_path / "gone"), "no such folder"),
        (str(tmp_path / "a.bin"), "got a file"),
    ]:
        with pytest.raises(SamplewiseError, match=match):
            load_model(name)
    with pytest.raises(SamplewiseError, match="dtype: expected one of auto"):
        load_model("org/name", dtype="int8")


@pytest.mark.parametrize("known", [True, False])
def test_code_that_comes_with_a_model_does_not_run_and_nobody_is_asked(folder, tmp_path, monkeypatch, known):
    """transformers asks on the terminal whether to run it, where it is not told that it must not."""
    evil = tmp_path / "evil"
    shutil.copytree(folder, evil)
    (evil / "own.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: ...\nModel = Tokenizer = Config\n"
    )
    maps = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model", "AutoTokenizer": ["own.Tokenizer", None]}
    for name in ("config.json", "tokenizer_config.json"):
        values = json.loads((evil / name).read_text()) | {"auto_map": maps}
        values |= {} if known else {"model_type": "own", "tokenizer_class": "Own"}
        (evil / name).write_text(json.dumps(values))
    monkeypatch.setattr("builtins.input", lambda *given: pytest.fail("asked on the terminal"))
    for load in (load_model, load_tokenizer):
        if known:
            load(evil)
        else:
            with pytest.raises(SamplewiseError, match="custom code"):
                load(evil)
    assert not (tmp_path / "ran").exists()
