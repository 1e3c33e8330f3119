"""DataFlex's loss weighter beside this library's, both in LLaMA-Factory's classic trainer, on the same model and rows.

    make .venv-framework-llamafactory/installed
    PY=.venv-framework-llamafactory/bin/python
    $PY bench/peers/against_dataflex.py gradients   # distance of the first step's gradient from the exact one
    $PY bench/peers/against_dataflex.py packing     # how many samples it weighs in packed rows
    $PY bench/peers/against_dataflex.py time        # CPU time of whole steps, the trainers taking turns
    $PY bench/peers/against_dataflex.py memory      # the highest resident memory, each in a process of its own

The exact gradient is Σ pᵢ∇Lᵢ over all rows of the step, in fp64, row by row, with DataFlex's own formula for p.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "bench"), str(ROOT / "tests" / "frameworks")]

from memory import HighWater  # before torch: it says how threads wait
from step import WARMUP, measure

import same_rows  # isort: skip
import torch  # isort: skip
import transformers  # isort: skip
import yaml  # isort: skip
from dataflex.train.hparams.dynamic_params import DynamicFinetuningArguments  # isort: skip
from dataflex.train.trainer.weight_trainer import WeightTrainer  # isort: skip
from llamafactory.hparams import TrainingArguments  # isort: skip
from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer  # isort: skip
from tokenizers import Tokenizer, models  # isort: skip

from samplewise.trainers.llamafactory import WeightedLlamaFactoryTrainer

STRATEGIES = {  # DataFlex's name: what its weights are the exponential of, h being the losses scaled to [-1, 1]
    "linupper": lambda h: (h + 1).clamp(max=1),
    "uniform": lambda h: h,
}
KINDS = ("plain", "DataFlex", "samplewise")


def make(
    kind: str, strategy: str, rule: str, model: Any, rows: list[Any], micro: int, folder: Path, **more: Any
) -> Any:
    """One of the three trainers, on the rows in order."""
    components = {"weighters": {"loss": {"name": "loss", "params": {"strategy": strategy, "delta": 1.0}}}}
    (folder / "components.yaml").write_text(yaml.safe_dump(components))
    finetuning = DynamicFinetuningArguments(
        component_name="loss", components_cfg_file=str(folder / "components.yaml"), disable_shuffling=True
    )
    args = TrainingArguments(
        str(folder), per_device_train_batch_size=micro, max_grad_norm=0.0, use_cpu=True, report_to="none",
        save_strategy="no", logging_strategy="no", disable_tqdm=True, dataloader_pin_memory=False, learning_rate=1e-5,
        **more,
    )  # fmt: skip
    classes = {"plain": CustomSeq2SeqTrainer, "DataFlex": WeightTrainer, "samplewise": WeightedLlamaFactoryTrainer}
    own = {"rule": rule} if kind == "samplewise" else {}
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(same_rows.VOCABULARY)}, unk_token="w3"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", unk_token="w3")
    collate = transformers.DataCollatorForSeq2Seq(tokenizer)
    return classes[kind](
        finetuning_args=finetuning, processor=None, tokenizer=tokenizer, model=model, args=args, data_collator=collate,
        train_dataset=rows, **own,
    )  # fmt: skip


def losses(model: Any, rows: list[Any]) -> torch.Tensor:
    return torch.stack([
        model(torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss for row in rows
    ])  # fmt: skip


def exact(strategy: str) -> tuple[dict[str, torch.Tensor], float]:
    """The gradient by the step's own weights, and (max − min) / 2 of its losses."""
    model = same_rows.tiny_model().double()
    found = losses(model, same_rows.rows())
    low, high = float(found.min()), float(found.max())
    h = (2 * found.detach() - (low + high)) / (high - low)
    (torch.softmax(STRATEGIES[strategy](h), 0) * found).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, (high - low) / 2


def distance(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> float:
    error = sum(float((got[name].double() - want[name]).square().sum()) for name in want)
    return (error / sum(float(each.square().sum()) for each in want.values())) ** 0.5


def gradients(_: argparse.Namespace) -> None:
    print("| weights | accumulation | DataFlex | samplewise |\n|---|---|---|---|")
    for strategy in STRATEGIES:
        want, half = exact(strategy)
        rule = "lin_upper(r=1.0)" if strategy == "linupper" else f"ir_dro(r={half!r})"
        for accumulation in (1, 4):
            off = {}
            for kind in KINDS[1:]:
                with tempfile.TemporaryDirectory() as folder, same_rows.catch_gradient() as caught:
                    rows = [{k: v for k, v in row.items() if k != "sample_id"} for row in same_rows.rows()]
                    micro = same_rows.ROWS // accumulation
                    more = {"gradient_accumulation_steps": accumulation, "max_steps": 1}
                    make(kind, strategy, rule, same_rows.tiny_model(), rows, micro, Path(folder), **more).train()
                off[kind] = distance(caught, want)
            print(f"| {strategy} | {accumulation} | {off['DataFlex']:.1e} | {off['samplewise']:.1e} |", flush=True)


def packing(_: argparse.Namespace) -> None:
    """Rows as LLaMA-Factory's `packing: true` makes them: samples one behind the other, up to the cut-off length."""
    packed, count = [{"input_ids": [], "labels": []}], 0
    for row in same_rows.rows():
        if len(packed[-1]["input_ids"]) + len(row["input_ids"]) > 64:
            packed.append({"input_ids": [], "labels": []})
        packed[-1] = {key: packed[-1][key] + row[key] for key in packed[-1]}
    with tempfile.TemporaryDirectory() as folder:
        trainer = make(
            "DataFlex", "linupper", "", same_rows.tiny_model(), packed, len(packed), Path(folder), max_steps=1
        )
        weigh = trainer.weighter.get_weighted_loss

        def counted(per_sample: torch.Tensor, **rest: Any) -> torch.Tensor:
            nonlocal count
            count += len(per_sample)
            return weigh(per_sample, **rest)

        trainer.weighter.get_weighted_loss = counted
        trainer.train()
    print(f"{same_rows.ROWS} samples packed into {len(packed)} rows of at most 64 tokens: {count} weights")


def big(kind: str, given: argparse.Namespace, folder: Path, steps: int) -> Any:
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=given.layers,
            num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True, pad_token_id=0,
        )
    )  # fmt: skip
    count = steps * given.accumulation * given.rows
    ids = torch.randint(3, 49_152, (count, 128), generator=torch.Generator().manual_seed(0)).tolist()
    rows = [{"input_ids": row, "labels": row} for row in ids]
    more = {"gradient_accumulation_steps": given.accumulation, "max_steps": steps}
    return make(kind, "linupper", given.rule, model, rows, given.rows, folder, **more)


def seconds(given: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        places = {kind: Path(folder, kind) for kind in KINDS}
        for place in places.values():
            place.mkdir()
        trainers = {kind: big(kind, given, place, WARMUP + given.rounds) for kind, place in places.items()}
        taken = measure(trainers, given.rounds)
    print("| trainer | CPU s a step | elapsed s a step | CPU / plain | CPU, largest / smallest |\n" + "|---" * 5 + "|")
    plain = statistics.median(cpu for _, cpu in taken["plain"])
    for kind, times in taken.items():
        elapsed, cpu = (statistics.median(each[k] for each in times) for k in (0, 1))
        spread = max(each[1] for each in times) / min(each[1] for each in times)
        print(f"| {kind} | {cpu:.2f} | {elapsed:.2f} | {cpu / plain:.2f} | {spread:.2f} |", flush=True)


def memory(given: argparse.Namespace) -> None:
    if given.of:
        with tempfile.TemporaryDirectory() as folder:
            trainer, watch = big(given.of, given, Path(folder), 2), HighWater()
            trainer.add_callback(watch)
            trainer.train()
        print(round(watch.result))
        return
    print("| trainer | peak MB |\n|---|---|")
    for kind in KINDS:
        again = [sys.executable, *sys.argv, "--of", kind]
        found = subprocess.run(again, capture_output=True, text=True, check=True).stdout.split()[-1]
        print(f"| {kind} | {found} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["gradients", "packing", "time", "memory"])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--rows", type=int, default=8, help="of 128 tokens, in a micro-batch")
    parser.add_argument("--accumulation", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rule", default="lin_upper(r=1.0)")
    parser.add_argument("--of", choices=KINDS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    {"gradients": gradients, "packing": packing, "time": seconds, "memory": memory}[given.what](given)


if __name__ == "__main__":
    main()
