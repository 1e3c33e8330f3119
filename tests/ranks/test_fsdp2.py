"""FSDP2 through the Trainer: parameters after a few steps against DDP's, on two gloo processes. No GPU."""

import json
from pathlib import Path

import preloaded
import pytest
import torch

PROGRAM = Path(__file__).with_name("fsdp2.py")
LLAMA, MIXTRAL = ({"transformer_layer_cls_to_wrap": name} for name in ("LlamaDecoderLayer", "MixtralDecoderLayer"))
TILT, BAND = "ir_dro(r=1.0)", "band(drop_top=0.25)"
LORA = {"target_modules": ["q_proj", "v_proj"]}
ROUTER = {
    "kind": "mixtral", "model": {"output_router_logits": True, "router_aux_loss_coef": 0.4},
    "arguments": {"ddp_find_unused_parameters": True},
}  # fmt: skip
SAVED = {"arguments": {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}}
BF16 = {"arguments": {"bf16": True}, "fsdp": LLAMA}

FAST = {
    "uniform": {"rule": "uniform()", "options": {"per": "token"}},
    "tilt, tied": {"rule": TILT, "model": {"tie_word_embeddings": True}},
    "band": {"rule": BAND},
    "bad row": {"rule": TILT, "rows": 16, "bad": True, "options": {"max_nonfinite": 0.2},
                "arguments": {"gradient_accumulation_steps": 4}},
}  # fmt: skip
SLOW = {
    "tilt": {"rule": TILT},
    "tilt, not resharded": {"rule": TILT, "fsdp": {**LLAMA, "reshard_after_forward": False}},
    "tilt, loaded by rank 0": {"rule": TILT, "fsdp": {**LLAMA, "cpu_ram_efficient_loading": True}},
    "band, tied": {"rule": BAND, "model": {"tie_word_embeddings": True}},
    "top_k": {"rule": "top_k(0.25)"},
    "one row kept": {"rule": "top_k(0.125)"},  # the other rank runs a blank one
    "checkpointing": {"rule": TILT, "fsdp": {**LLAMA, "activation_checkpointing": True}},
    "LoRA": {"rule": TILT, "lora": LORA},
    "LoRA and head": {"rule": BAND, "lora": {**LORA, "modules_to_save": ["lm_head"]}},
    "router": {"rule": TILT, "fsdp": MIXTRAL, **ROUTER},
    "router, one row kept": {"rule": "top_k(0.125)", "fsdp": MIXTRAL, **ROUTER},
    "micro": {"rule": TILT, "options": {"normalize": "micro"}},
    "reference model": {"rule": f"by('excess', {TILT})", "reference": True},
    "trained twice": {"rule": TILT, "again": True},
}
ALONE = {  # FSDP2 only
    "host": {"rule": None, "fsdp": LLAMA}, "host, bf16": {"rule": None, **BF16},
    "uniform, bf16": {"rule": "uniform()", "options": {"per": "token"}, **BF16},
    "tilt, bf16": {"rule": TILT, **BF16}, "band, bf16": {"rule": BAND, **BF16},
}  # fmt: skip


def ends(folder: Path, runs: dict[str, dict]) -> dict[str, dict]:
    """What each run ends with; of those without settings of FSDP also under DDP, as `<name> (DDP)`."""
    (folder / "runs.json").write_text(json.dumps(runs))
    done = preloaded.run(PROGRAM, folder, str(folder / "runs.json"), timeout=590)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return {name: torch.load(folder / f"{name}.pt", weights_only=True) for name in runs}


def pairs(runs: dict[str, dict]) -> dict[str, dict]:
    under = {name: {"fsdp": LLAMA, **run} for name, run in runs.items()}
    return {**under, **{f"{name} (DDP)": {**run, "fsdp": None} for name, run in runs.items()}}


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    return ends(tmp_path_factory.mktemp("fast"), pairs(FAST))


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    return ends(tmp_path_factory.mktemp("slow"), pairs(SLOW))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return ends(tmp_path_factory.mktemp("alone"), ALONE)


def furthest(run: dict, other: dict) -> float:
    """The largest distance of a parameter; infinities must be the same ones."""
    assert run["parameters"].keys() == other["parameters"].keys()
    distances = []
    for name, parameter in run["parameters"].items():
        expected = other["parameters"][name]
        assert torch.equal(parameter.isfinite(), expected.isfinite())
        distances.append(float((parameter - expected)[expected.isfinite()].abs().max()))
    return max(distances)


def check_pair(found: dict[str, dict], name: str) -> None:
    run, other = found[name], found[f"{name} (DDP)"]
    assert run["modes"] == other["modes"]
    for got, expected in zip(run["gradients"], other["gradients"], strict=True):
        assert got.keys() == expected.keys()
        for key in got:
            assert (got[key] - expected[key]).norm() <= 2e-6 * expected[key].norm(), key
    assert furthest(run, other) <= 1e-6
    assert run["eval_loss"] == pytest.approx(other["eval_loss"], abs=1e-6)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.slow
def test_parameters_are_those_of_ddp(fast, name):
    check_pair(fast, name)
    assert fast[name]["history"].count("samplewise/retried") == (2 if name == "bad row" else 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_parameters_are_those_of_ddp_too(slow, name):
    check_pair(slow, name)


@pytest.mark.slow
def test_uniform_weights_are_the_trainer_itself(alone, fast):
    assert furthest(fast["uniform"], alone["host"]) <= 1e-6


@pytest.mark.slow
def test_in_16_bits_losses_and_weights_are_not_rounded(alone):
    """FSDP2 casts what a model returns; the gradients of both trainers differ by the rounding of activations."""
    for name in ("tilt, bf16", "band, bf16", "uniform, bf16"):
        for loss in alone[name]["losses"]:
            assert (loss != loss.bfloat16().double()).all()
    for loss, weights in zip(alone["tilt, bf16"]["losses"], alone["tilt, bf16"]["weights"], strict=True):
        assert (weights - len(loss) * loss.softmax(0)).abs().max() <= 1e-9
    first, host = (alone[name]["gradients"][0] for name in ("uniform, bf16", "host, bf16"))
    for key in first:
        assert (first[key] - host[key]).norm() <= 0.02 * host[key].norm(), key


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["FULL", "SHARDED"])
@pytest.mark.parametrize("more", [{"rule": TILT}, {"rule": BAND}, {"rule": TILT, "lora": LORA}])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, kind, more):
    run = {"fsdp": {**LLAMA, "state_dict_type": f"{kind}_STATE_DICT"}, **SAVED, **more}
    found = ends(tmp_path, {"whole": run, "resumed": {**run, "resume": "whole/checkpoint-2"}})
    assert [len(found[name]["losses"]) for name in ("whole", "resumed")] == [4, 2]
    for name, parameter in found["whole"]["parameters"].items():
        assert torch.equal(parameter, found["resumed"]["parameters"][name]), name
