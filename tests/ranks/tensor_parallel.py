"""A model that transformers loads in parts, over ranks that have the same rows, alone and within FSDP2.

    python tests/ranks/tensor_parallel.py RANKS

Two ranks share each row; RANKS / 2 pairs have rows of their own. Every rank compares its steps with those that one
process took with the whole model on all rows, and raises where they differ.
"""

import sys
import tempfile
from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist
import transformers
from forks import forked
from torch.distributed.tensor import DTensor
from transformers.distributed import DistributedConfig

from samplewise.core.errors import SamplewiseError
from samplewise.engine.options import WeightingOptions
from samplewise.engine.step import Step
from samplewise.losses.token_losses import sample_losses
from samplewise.trainers import WeightedStep

SHARED = 2
MICRO, SIZE, STEPS = 2, 3, 2
CASES: dict[str, dict[str, Any]] = {
    "one pass": {"rule": "ir_dro(r=1.0)"},
    "two passes, few kept": {"rule": "top_k(0.25)"},
    "per token": {"rule": "uniform()", "options": {"per": "token"}},
    "a token rule of the step": {
        "rule": "ir_dro(r=1.0)",
        "options": {"token_rule": 'token_band(drop_top=0.2, scope="step")'},
    },
    "from logits": {"rule": "ir_dro(r=1.0)", "options": {"losses": lambda model, micro: from_logits(model, micro)}},
    "tied": {"rule": "ir_dro(r=1.0)", "kind": "tied"},
    "Qwen 3, one backward": {"rule": "top_k(0.25)", "kind": "qwen3"},
}


def from_logits(model: torch.nn.Module, micro: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return sample_losses(
        model(**{key: micro.inputs[key] for key in ("input_ids", "attention_mask")}).logits, micro.inputs["mine"]
    )


def rows(first: int, count: int, own: bool) -> dict[str, torch.Tensor]:
    data = tiny.Rows(64)
    batch = tiny.collate([data[i] for i in range(first, first + count)])
    if own:
        batch["mine"] = batch.pop("labels")
    return {**batch, "sample_id": torch.arange(first, first + count)}


def ended(model: torch.nn.Module, case: dict[str, Any], pairs: int, pair: int | None) -> list[dict[str, Any]]:
    """Losses, figures and gradients of two steps. pair: whose rows; None: those of all, in one process."""
    options = dict(case.get("options", {}))
    own = "losses" in options
    step, found = WeightedStep(model, case["rule"], **options), []
    for number in range(STEPS):
        every = [
            [rows(((number * pairs + each) * MICRO + k) * SIZE, SIZE, own) for k in range(MICRO)]
            for each in range(pairs)
        ]
        batches = [batch for each in every for batch in each] if pair is None else every[pair]
        model.zero_grad()
        for micro in step.plan(batches):
            step.backward(micro)
        figures = step.finish()
        grads = {name: whole(p.grad) for name, p in model.named_parameters() if p.grad is not None}
        found.append({"loss": torch.tensor([figures[key] for key in ("loss", "ess", "kept")]), **grads})
    step.detach()
    return found


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def compare(name: str, got: list[dict[str, Any]], want: list[dict[str, Any]]) -> None:
    for number, (ours, theirs) in enumerate(zip(got, want, strict=True)):
        assert ours.keys() == theirs.keys(), (name, ours.keys() ^ theirs.keys())
        for key, right in theirs.items():
            off = float((ours[key].double() - right.double()).norm() / right.double().norm().clamp(min=1e-12))
            assert off <= 1e-5, (name, number, key, off)


def refusals(model: torch.nn.Module, norms: torch.nn.Module, rank: int) -> None:
    """Ranks that hold parts of the same layers, with different rows; and a loop that says nothing of such ranks.

    norms: a model whose norms' gradients transformers sums over ranks after every backward.
    """
    other_rows(model, rank)
    step, batches = WeightedStep(norms, "ir_dro(r=1.0)"), [rows(SIZE * k, SIZE, False) for k in range(MICRO)]
    with pytest.raises(SamplewiseError, match=r"^micro-batches: expected one a step.*tp_plan.*got 2"):
        next(iter(step.plan(batches)))
    step.detach()
    with pytest.raises(SamplewiseError, match=r"rows of their own, got tensor parallelism.*WeightedStep"):
        Step(WeightingOptions(rule="uniform()"), torch.device("cpu")).attach(model)


def other_rows(model: torch.nn.Module, rank: int) -> None:
    """Of the last group alone, in the first step and in the third, where labels differ too: an error on all ranks."""
    last = dist.get_world_size() - 2
    good = rows(6 * (rank // SHARED), SIZE, False)
    strange = rows(6 * (rank // SHARED) + (rank == last), SIZE, False)
    want = f"the same on ranks {last} {last + 1}, which hold parts of the same layers, got ids that not all of them "
    want += f"have: {3 * last + 3} on rank {last}, {3 * last} on rank {last + 1}"
    for bad in (1, 3):
        step = WeightedStep(model, "uniform()")
        for number in range(1, bad):
            model.zero_grad()
            for micro in step.plan([good]):
                step.backward(micro)
            assert step.finish()["samples"] == SIZE * dist.get_world_size() / SHARED, number
        with pytest.raises(SamplewiseError, match=f"^rows of step {bad}: expected {want}.*by the number of the tensor"):
            next(iter(step.plan([strange])))
        step.detach()
    step = WeightedStep(model, "uniform()")
    relabelled = {**good, "labels": good["labels"] + (rank == last)}
    with pytest.raises(SamplewiseError, match="got the same ids, but other tokens, labels or order"):
        next(iter(step.plan([relabelled])))
    step.detach()


def path_of(case: dict[str, Any], folder: str) -> str:
    return f"{folder}/{case.get('kind', 'untied')}"


def work(rank: int, folder: str, ranks: int, want: dict[str, list[dict[str, Any]]]) -> None:
    dist.init_process_group("gloo")
    pairs = ranks // SHARED
    config = DistributedConfig(tp_size=SHARED, tp_plan="auto", fsdp_size=pairs)
    models = {}
    for name, case in CASES.items():
        split = models[case.get("kind")] = load(path_of(case, folder), distributed_config=config).train()
        assert isinstance(split.lm_head.weight, DTensor)
        compare(name, ended(split, case, pairs, rank // SHARED), want[name])
    refusals(models["tied"], models["qwen3"], rank)
    dist.destroy_process_group()


if __name__ == "__main__":
    count = int(sys.argv[1])
    transformers.logging.disable_progress_bar()
    load: Any = transformers.AutoModelForCausalLM.from_pretrained
    with tempfile.TemporaryDirectory() as place:
        for kind in ("untied", "tied"):
            tiny.model("llama", tie_word_embeddings=kind == "tied").save_pretrained(f"{place}/{kind}")
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 8}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": tiny.VOCABULARY}
        transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**sizes, **heads)).save_pretrained(f"{place}/qwen3")
        whole_model = {
            name: ended(load(path_of(case, place)).train(), case, count // SHARED, None) for name, case in CASES.items()
        }
        codes = forked(count, lambda rank: work(rank, place, count, whole_model))
    raise SystemExit(max(map(abs, codes)))
