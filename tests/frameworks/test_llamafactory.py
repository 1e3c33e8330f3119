"""LLaMA-Factory's classic trainer and its v1, from the command line, on the rows that all frameworks train on."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import datasets
import llamafactory_driver
import pyarrow.parquet as parquet
import pytest
import same_rows
import torch
import transformers
import yaml
from llamafactory.train import tuner
from llamafactory.v1.trainers.sft_trainer import run_sft
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers

from samplewise.core.errors import SamplewiseError
from samplewise.trainers import llamafactory

pytestmark = [  # torchdata's own calls
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore:pin_memory_device is deprecated:UserWarning"),
]
DRIVER = Path(llamafactory_driver.__file__)
CLASSIC = {
    "stage": "sft", "do_train": True, "finetuning_type": "full", "template": "empty",
    "per_device_train_batch_size": same_rows.MICRO, "gradient_accumulation_steps": same_rows.ACCUMULATION,
    "max_steps": 1, "max_grad_norm": 0.0, "lr_scheduler_type": "constant", "save_strategy": "no", "report_to": "none",
    "use_cpu": True, "disable_tqdm": True, "dataloader_pin_memory": False, "logging_steps": 1,
}  # fmt: skip
V1 = {
    "template": "ids", "micro_batch_size": same_rows.MICRO, "global_batch_size": same_rows.ROWS, "max_steps": 1,
    "max_grad_norm": 1e9, "bf16": False, "batching_workers": 0, "enable_activation_checkpointing": False,
    "flash_attn": "eager",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The tiny model with a word for each id, and the rows in the form that each of the two reads."""
    folder = tmp_path_factory.mktemp("llamafactory")
    same_rows.tiny_model().save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "model")
    rows = datasets.Dataset.from_list(same_rows.rows())
    datasets.DatasetDict({"train": rows}).save_to_disk(folder / "rows")
    (folder / "rows.jsonl").write_text("".join(json.dumps(conversation(row)) + "\n" for row in same_rows.rows()))
    return folder


def tokenizer():
    """One word for each id."""
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(same_rows.VOCABULARY)}, unk_token="w3"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": "w1", "eos_token": "w2", "pad_token": "w0", "unk_token": "w3"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special)


def conversation(row, weights=(0.0, 1.0)):
    """A row as messages of words: what is not predicted is the user's."""
    prompt = row["labels"].count(-100)
    parts = [("user", row["input_ids"][:prompt], weights[0]), ("assistant", row["input_ids"][prompt:], weights[1])]
    return {"messages": [message(*each) for each in parts if each[1]], "sample_id": row["sample_id"]}


def message(role, ids, weight):
    words = " ".join(f"w{i}" for i in ids)
    return {"role": role, "content": [{"type": "text", "value": words}], "loss_weight": weight}


def classic(folder, tmp_path, **more):
    """The arguments of a classic run."""
    data = {"tokenized_path": str(folder / "rows"), "dataset": "rows"}
    return {**CLASSIC, **data, "model_name_or_path": str(folder / "model"), "output_dir": str(tmp_path / "out"), **more}


def v1(folder, tmp_path, rows=None, **more):
    """The arguments of a run of v1."""
    path = folder / "rows.jsonl"
    if rows is not None:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = {"model": str(folder / "model"), "output_dir": str(tmp_path / "out")}
    return {**V1, **model, "train_dataset": str(path), **more}


def gradient(monkeypatch, args, run=llamafactory.run):
    """The gradient of the first step."""
    monkeypatch.setenv("USE_V1", "1" if "model" in args else "0")
    with same_rows.catch_gradient() as caught:
        run(args)
    return caught


RULES = {"one pass": same_rows.RULE, "two passes": f"chain(band(), {same_rows.RULE})"}


@pytest.mark.parametrize("arguments", [classic, v1])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_same_gradient(folder, tmp_path, monkeypatch, arguments, rule):
    caught = gradient(monkeypatch, arguments(folder, tmp_path, samplewise={"rule": rule}))
    assert (off := same_rows.distance(caught)) <= 1e-5, off


LAUNCHED = {
    "classic": (1, classic, {}),
    "classic, DDP": (2, classic, {"gradient_accumulation_steps": same_rows.ACCUMULATION // 2}),
    "v1": (1, v1, {}),
    "v1, DDP": (2, v1, {}),
    "v1, FSDP2": (2, v1, {"dist_config": {"name": "fsdp2"}}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAUNCHED)
def test_the_same_gradient_from_the_command_line(folder, tmp_path, name):
    ranks, arguments, more = LAUNCHED[name]
    args = arguments(folder, tmp_path, samplewise={"rule": same_rows.RULE}, **more)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(args))
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    command = [sys.executable, *launcher, str(DRIVER), str(tmp_path / "gradient"), str(tmp_path / "run.yaml")]
    environment = os.environ | {"USE_V1": str(int(arguments is v1)), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (off := same_rows.distance(same_rows.caught_at(tmp_path / "gradient-0"))) <= 1e-5, off


def test_loss_weights_and_columns_of_v1(folder, tmp_path, monkeypatch):
    """A sample's loss is Σ mₜℓₜ / Σ mₜ with the weights of its messages; sample_weight multiplies its weight."""
    data, rows, model, losses, weights = [], same_rows.rows(), same_rows.tiny_model().double(), [], []
    for number, row in enumerate(rows):
        ids, third = row["input_ids"], len(row["input_ids"]) // 3
        bounds = [(0, third, 0.0), (third, 2 * third, 0.25), (2 * third, len(ids), 2.0)]
        parts = zip(("user", "assistant", "assistant"), bounds, strict=True)
        messages = [message(role, ids[a:b], weight) for role, (a, b, weight) in parts]
        data.append({"messages": messages, "sample_weight": 1.0 + number % 3})
        token = torch.tensor([weight for a, b, weight in bounds for _ in range(a, b)], dtype=torch.float64)[1:]
        each = nll(model, ids)
        losses.append((token * each).sum() / token.sum())
        weights.append(1.0 + number % 3)
    loss = torch.stack(losses)
    p = torch.softmax(loss.detach() / same_rows.R + torch.tensor(weights, dtype=torch.float64).log(), 0)
    (p * loss).sum().backward()
    rule = f"chain(column_weights(), {same_rows.RULE})"
    caught = gradient(monkeypatch, v1(folder, tmp_path, data, samplewise={"rule": rule}))
    assert distance(caught, {name: each.grad for name, each in model.named_parameters()}) <= 1e-5


def nll(model, ids):
    logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")


def distance(got, want):
    assert got.keys() == want.keys()
    error = sum(float((got[name].double() - want[name].double()).square().sum()) for name in want)
    return (error / sum(float(each.double().square().sum()) for each in want.values())) ** 0.5


def test_uniform_is_the_classic_trainers_own(folder, tmp_path, monkeypatch):
    plain = gradient(monkeypatch, classic(folder, tmp_path), tuner.run_exp)
    ours = gradient(monkeypatch, classic(folder, tmp_path / "ours", samplewise={"rule": "uniform()", "per": "token"}))
    assert distance(ours, plain) <= 1e-6


def test_uniform_is_v1s_own(folder, tmp_path, monkeypatch):
    """Where every message's weight is 0 or 1, and no row's first token, which nothing predicts, counts as one."""
    data = [
        {"messages": [message("user", row["input_ids"][:2], 0.0), message("assistant", row["input_ids"][2:], 1.0)]}
        for row in same_rows.rows()
    ]
    plain = gradient(monkeypatch, v1(folder, tmp_path, data), run_sft)
    ours = gradient(monkeypatch, v1(folder, tmp_path, data, samplewise={"rule": "uniform()", "per": "token"}))
    assert distance(ours, plain) <= 1e-6


def test_v1s_log_holds_the_unweighted_loss(folder, tmp_path, monkeypatch):
    model = same_rows.tiny_model().double()
    with torch.no_grad():
        losses = [
            model(torch.tensor([r["input_ids"]]), labels=torch.tensor([r["labels"]])).loss for r in same_rows.rows()
        ]
    gradient(monkeypatch, v1(folder, tmp_path, samplewise={"rule": same_rows.RULE}))
    log = json.loads((tmp_path / "out" / "trainer_log.jsonl").read_text().splitlines()[-1])
    assert log["loss"] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)
    assert 0 < log["samplewise/ess"] < 1
    assert log["samplewise/samples"] == same_rows.ROWS


REFUSED = {
    "packing": (classic, {"packing": True}),
    "use_dft_loss": (classic, {"use_dft_loss": True}),
    "stage": (classic, {"stage": "pt"}),
    "dist_config": (v1, {"dist_config": {"name": "deepspeed", "config_file": "none.json"}}),
    "cp_size": (v1, {"dist_config": {"name": "fsdp2", "cp_size": 2}}),
    "batching_strategy": (v1, {"batching_strategy": "padding_free"}),
    "samplewise": (v1, {"samplewise": None}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named(folder, tmp_path, monkeypatch, name):
    arguments, more = REFUSED[name]
    args = arguments(folder, tmp_path, **{"samplewise": {"rule": same_rows.RULE}, **more})
    with pytest.raises(SamplewiseError, match=name):
        gradient(monkeypatch, args)


@pytest.mark.parametrize("name", ["use_mca", "use_hyper_parallel", "enable_liger_kernel", "use_unsloth"])
def test_what_needs_a_package_is_refused_by_name_too(folder, tmp_path, monkeypatch, name):
    """LLaMA-Factory's own check of these asks for the package first."""
    found = SimpleNamespace(stage="sft", **{name: True})
    monkeypatch.setattr(tuner, "get_train_args", lambda _: (found, found, found, found, found))
    with pytest.raises(SamplewiseError, match=name):
        gradient(monkeypatch, classic(folder, tmp_path, samplewise={"rule": same_rows.RULE}))


@pytest.mark.parametrize("name", ["galore_layerwise", "apollo_layerwise", "use_badam"])
def test_optimizers_that_step_in_backward_are_refused(name):
    with pytest.raises(SamplewiseError, match=name):
        llamafactory.WeightedLlamaFactoryTrainer(SimpleNamespace(**{name: True}), rule=same_rows.RULE)


def test_v1_resumes_with_what_its_rule_remembers(folder, tmp_path, monkeypatch):
    """infobatch weighs by the mean of the losses so far; a run of four steps, whole and in two halves, ends alike."""
    given = {"samplewise": {"rule": "infobatch(share=0.5)"}, "global_batch_size": 8, "save_steps": 2, "max_steps": 4}
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    gradient(monkeypatch, v1(folder, whole, **given))
    gradient(monkeypatch, v1(folder, halves, **given | {"max_steps": 2}))
    gradient(monkeypatch, v1(folder, halves, **given, resume_from_checkpoint="auto"))
    for name in ("state.json", "state.safetensors"):
        states = [run / "out" / "checkpoint-4" / "rule" / "samplewise" / name for run in (whole, halves)]
        assert states[0].exists() == states[1].exists()
        assert not states[0].exists() or states[0].read_bytes() == states[1].read_bytes()
    models = [load_file(run / "out" / "model.safetensors") for run in (whole, halves)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_the_example_runs_as_it_is(tmp_path, monkeypatch):
    """Its own command, in an empty folder: 64 rows, each once, with a weight of its own."""
    examples = Path(__file__).parents[2] / "examples"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USE_V1", "0")
    monkeypatch.setattr(sys, "argv", ["llamafactory", str(examples / "llamafactory.yaml"), "use_cpu=true"])
    runpy.run_path(str(examples / "llamafactory_tiny.py"), run_name="__main__")
    llamafactory.main()
    log = parquet.read_table(tmp_path / "runs" / "llamafactory" / "samples")
    assert sorted(log["id"].to_pylist()) == list(range(64))
    assert len(set(log["weight"].to_pylist())) > 32
    assert (tmp_path / "runs" / "llamafactory" / "out" / "checkpoint-8" / "samplewise" / "complete.json").exists()
