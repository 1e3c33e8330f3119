"""Every block of code on the pages and in the README: Python runs, on tiny models where it names large ones, commands
are read by the command line, and YAML has keys that exist."""

import re
import shlex
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import datasets
import preferences
import pytest
import tiny
import torch
import typer
import world
import yaml
from fake_scores import write_fake_scores
from transformers import AutoTokenizer, Trainer
from trl import DPOConfig, SFTConfig

from samplewise.cli.app import app
from samplewise.config import RunConfig
from samplewise.corpus import column, open_scores
from samplewise.evidence.evaluation_config import EvaluateConfig
from samplewise.evidence.plan import PlanConfig
from samplewise.evidence.probes.config import ProbeConfig
from samplewise.trainers import WeightedStep, WeightedTrainer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, block) of each block in a language."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found += [(page.name, block) for block in re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)]
    return found


ON_A_CPU: dict[str, Any] = {
    "use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "max_steps": 1, "logging_steps": 1,
    "disable_tqdm": True, "dataloader_pin_memory": False, "per_device_train_batch_size": 4,
}  # fmt: skip
CHAT = "{% for m in messages %}<s> {{ m['content'] }} {% if m['role'] == 'assistant' %}</s>{% endif %}{% endfor %}"


def trainer_names(folder: Path) -> dict[str, Any]:
    names = {"model": tiny.model(), "args": tiny.arguments(folder), "data": tiny.Rows(), "collator": tiny.collate}
    return {**names, "MyTrainer": Trainer, "WeightedTrainer": WeightedTrainer}


def tiny_sft(folder: Path, **options: Any) -> SFTConfig:
    return SFTConfig(**{**ON_A_CPU, "output_dir": str(folder), "max_length": 32, **options})


def sft_names(folder: Path) -> dict[str, Any]:
    """A page's SFTConfig keeps what it says, but for what a CPU lacks and the template of a tiny model."""
    model = world.save_model(folder / "model")
    text = datasets.Dataset.from_dict({"text": [f"w{i} w{i + 1} w{i + 2} w{i + 3}" for i in range(16)]})

    def config(output_dir: str = "", assistant_only_loss: bool = False, **options: Any) -> SFTConfig:
        return tiny_sft(folder, **options)

    tokenizer = AutoTokenizer.from_pretrained(model)
    return {"model": str(model), "data": text, "SFTConfig": config, "args": tiny_sft(folder), "tokenizer": tokenizer}


def dpo_names(folder: Path) -> dict[str, Any]:
    def config(output_dir: str = "") -> DPOConfig:
        return DPOConfig(str(folder), **ON_A_CPU)

    model = str(world.save_model(folder / "model"))
    names = {"model": model, "pairs": preferences.pairs(), "tokenizer": AutoTokenizer.from_pretrained(model)}
    return {**names, "DPOConfig": config, "dpo_args": config()}


def micro_batches(count: int = 2) -> list[list[dict[str, Any]]]:
    rows = tiny.Rows(8 * count)
    numbers = [range(first, first + 4) for first in range(0, 8 * count, 4)]
    batches = [{**tiny.collate([rows[i] for i in own]), "sample_id": torch.tensor(own)} for own in numbers]
    return [batches[k : k + 2] for k in range(0, len(batches), 2)]


def loop_names(folder: Path) -> dict[str, Any]:
    model = tiny.model()
    names = {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1), "steps": micro_batches()}
    return {**names, "WeightedStep": WeightedStep, "accelerator": None}


def one_step_names(folder: Path) -> dict[str, Any]:
    return {"step": WeightedStep(tiny.model(), "ir_dro(r=3.0)"), "micro_batches": micro_batches()[0]}


def token_names(folder: Path) -> dict[str, Any]:
    batches = [{key: batch[key] for key in ("input_ids", "attention_mask", "labels")} for batch in micro_batches()[0]]
    return {"model": tiny.model(), "reference": tiny.model(seed=1), "batches": batches, "torch": torch}


def instruction_names(folder: Path) -> dict[str, Any]:
    rows = [{"prompt": f"w{i} w{i + 1}", "completion": f" w{i + 2} w{i + 3}"} for i in range(16)]
    datasets.Dataset.from_list(rows).to_json(folder / "rows.jsonl")
    names = sft_names(folder)
    names["tokenizer"].chat_template = CHAT
    return names


def score_names(folder: Path) -> dict[str, Any]:
    write_fake_scores(folder / "scores", rows=200, added=("reference",))
    scores = open_scores(str(folder / "scores"))
    ids, tokens = column(scores, "n_tokens")
    rows = [{"sample_id": int(i), "input_ids": list(range(int(n) + 1))} for i, n in zip(ids, tokens, strict=True)]
    return {"dataset": datasets.Dataset.from_list(rows)}


def tokenizer_names(folder: Path) -> dict[str, Any]:
    world.save_model(folder / "tokenizer")  # with a model that the page does not look at
    return {}


def diagnosis_names(folder: Path) -> dict[str, Any]:
    args = tiny.arguments(folder / "run", save_strategy="steps", save_steps=200, max_steps=200, logging_steps=1)
    trainer = WeightedTrainer(
        tiny.model(), args, train_dataset=tiny.Rows(), data_collator=tiny.collate, rule="ir_dro(r=0.3)"
    )
    trainer.train()
    return {}


RUN_HERE = {  # what a block has: the names that it takes for granted
    'look, rule = Look(), "band': lambda folder: {},
    "data_collator=collator": trainer_names,
    "class MyWeightedTrainer": trainer_names,
    "SFTConfig(": sft_names,
    'WeightedSFTTrainer(model, args, train_dataset=data, processing_class=tokenizer, rule="ir_dro(r=3.0)")': sft_names,
    "read_instructions": instruction_names,
    "WeightedDPOTrainer": dpo_names,
    "for micro in step.plan(micro_batches):  # step = WeightedStep": one_step_names,
    "accelerator=accelerator)  # or without it": loop_names,
    "accelerator=accelerator or fabric=fabric, if": loop_names,
    "attach_objective": token_names,
    "open_scores": score_names,
    'save_pretrained("tiny-model")': tokenizer_names,
    "trainer_state.json": diagnosis_names,
    "sw.weights(": lambda folder: {},
}
RUN_ELSEWHERE = {  # with what they need, or in the environment of another framework
    "def linear_rank": "rules/test_add_a_rule.py",
    "linear_rank": "rules/test_add_a_rule.py",
    "def steep": "rules/test_registry.py",
    "step.prepare(": "test_engine_page.py",
    "class Heaviest": "test_engine_page.py",
    "def cross_entropy": "test_engine_page.py",
    "deepspeed": "frameworks/test_deepspeed.py",
    "WeightingCallback": "frameworks/test_lightning__example.py",
    "fabric.setup": "frameworks/test_lightning__fabric.py",
    "samplewise.trainers.swift": "frameworks/test_swift.py",
    "fsdp_config=": "ranks/test_fsdp2.py",
    "distributed_config=": "ranks/test_vocabulary.py",
}
SLOW = ("look, rule", "trainer_state.json", "read_instructions")
PYTHON = blocks("python")


def place(block: str, table: dict[str, Any]) -> Any:
    return next((value for mark, value in table.items() if mark in block), None)


@pytest.mark.parametrize("block", [
    pytest.param(block, id=f"{page}-{i}", marks=[pytest.mark.slow] if any(s in block for s in SLOW) else [])
    for i, (page, block) in enumerate(PYTHON) if place(block, RUN_ELSEWHERE) is None
])  # fmt: skip
def test_python_runs(block, tmp_path, monkeypatch):
    names = place(block, RUN_HERE)
    assert names is not None, "say in RUN_HERE what the block takes for granted"
    monkeypatch.chdir(tmp_path)
    space = names(tmp_path)
    exec(compile(block, "block", "exec"), space)
    trainer = space.get("trainer")
    if trainer is not None and trainer.state.global_step == 0:
        trainer.args.max_steps = 1
        trainer.train()
    if trainer is not None:
        assert any("samplewise/ess" in entry for entry in trainer.state.log_history)


def test_blocks_that_run_elsewhere_have_a_test_there():
    for mark, name in RUN_ELSEWHERE.items():
        assert any(mark in block for _, block in PYTHON), f"no block has {mark!r} any more"
        assert (ROOT / "tests" / name).is_file(), name


def commands() -> list[tuple[str, list[str]]]:
    found = []
    for page, block in blocks("bash") + blocks(""):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith(("samplewise ", "make ", "python ", "torchrun ")):
                found.append((page, shlex.split(line, comments=True)))
    return found


def test_commands_are_read_by_the_command_line():
    ours = [(page, words[1:]) for page, words in commands() if words[0] == "samplewise"]
    assert len(ours) >= 20
    root = typer.main.get_command(app)
    for page, (name, *words) in ours:
        command = root.commands.get(name)  # pyright: ignore[reportAttributeAccessIssue]
        assert command is not None, f"{page}: samplewise {name}"
        if "…" in words:  # as in the block before
            words = [*(word for word in words if word != "…"), "--model", "m", "--data", "d", "--out", "o"]
        command.make_context(name, list(words))


def test_commands_name_targets_and_programs_that_are_there():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page, words in commands():
        if words[0] == "make" and not words[1].startswith("."):
            assert words[1] in targets, f"{page}: {words}"
        if words[0] in ("python", "torchrun"):
            program = next((word for word in words if word.endswith(".py") and "/" in word), None)
            assert program is None or (ROOT / program).is_file(), f"{page}: {words}"


def known_keys(kind: Any) -> set[str]:
    """The keys of a configuration, of all its nested parts."""
    found: set[str] = set()
    for each in (kind, *get_args(kind)):
        if is_dataclass(each):
            hints = get_type_hints(each)
            for one in fields(each):
                found |= {one.name} | known_keys(hints[one.name])
    return found


FOREIGN = {
    "axolotl.md": {"plugins", "samplewise"},
    "README.md": {"plugins", "samplewise"},
    "llamafactory.md": {"samplewise"},
}


def test_yaml_has_keys_that_exist():
    known = known_keys(RunConfig) | known_keys(PlanConfig) | known_keys(EvaluateConfig) | known_keys(ProbeConfig)
    checked = 0
    for page, block in blocks("yaml"):
        values = yaml.safe_load(block)
        for key, value in values.items():
            assert key in known | FOREIGN.get(page, set()), f"{page}: {key}"
            if isinstance(value, dict) and key not in ("training", "sweep", "arms", "models"):
                unknown = set(value) - known - {"rule"}
                assert not unknown, f"{page}: {key}: {unknown}"
            checked += 1
    assert checked >= 10
