"""One step is one step, however it is split: DDP, FSDP2 and accelerate against one process with one micro-batch."""

from pathlib import Path

import preloaded
import pytest
import torch

PROGRAM = Path(__file__).with_name("loops.py")
TILT, CHOICE = "ir_dro(r=0.3)", "chain(top_k(0.5), ir_dro(r=0.5))"  # one pass from the second step on; two passes
LIMITS = {("gradients", "float64"): 1e-10, ("gradients", "float32"): 1e-6,
          ("parameters", "float64"): 1e-10, ("parameters", "float32"): 2e-5}  # fmt: skip


def ends(folder: Path, cases: list[str]) -> dict:
    done = preloaded.run(PROGRAM, folder, *cases, timeout=590)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return {case: torch.load(folder / f"{case}.pt", weights_only=True) for case in cases}


def compare(folder: Path, splits: list[str], rules: list[str], kinds: list[tuple[str, str]]) -> None:
    """Each `wrapper:split` against one process with all eight rows in one micro-batch."""
    wanted = [f"{rule}:{dtype}:{task}" for rule in rules for task, dtype in kinds]
    found = ends(folder, [f"{split}:{rest}" for rest in wanted for split in ("bare:8", *splits)])
    for rest in wanted:
        _, dtype, task = rest.rsplit(":", 2)
        alone, limit = found[f"bare:8:{rest}"], LIMITS[task, dtype]
        for split in splits:
            other = found[f"{split}:{rest}"]
            if task == "parameters":
                assert (other - alone).abs().max() <= limit, f"{split}:{rest}"
            for got, expected in zip(other, alone, strict=True) if task == "gradients" else ():
                assert (got - expected).norm() <= limit * expected.norm(), f"{split}:{rest}"


def test_fsdp2_gives_the_gradient_of_one_process(tmp_path):
    compare(tmp_path, ["fsdp2:3|5", "fsdp2+norm+head:3|5"], [TILT, CHOICE], [("gradients", "float64")])


@pytest.mark.slow
def test_a_head_that_fsdp2_shards_on_its_own_and_a_rank_without_a_kept_row(tmp_path):
    splits = ["fsdp2+head:3|5", "fsdp2+norm+head:2,1|3,2"]
    compare(tmp_path, splits, [TILT, "top_k(0.125)"], [("gradients", "float64"), ("parameters", "float32")])


@pytest.mark.slow
def test_negative_weights_give_the_gradient_of_one_process(tmp_path):
    """In two passes, from which samples of weight 0 are left out, and in one."""
    compare(tmp_path, ["ddp:2,1|3,2"], ["chain(column_weights(), ir_dro(r=0.3))"], [("gradients", "float64")])


@pytest.mark.slow
def test_rules_over_samples_and_tokens_together(tmp_path):
    """First losses, past losses and token weights: what is learned of a step is learned from all ranks."""
    rules = [
        "chain(flow(), truncate(share=0.25, warmup=1), dft())",
        "chain(flow(), top_k(0.5), token_threshold(max=3.6))",
    ]
    compare(tmp_path, ["ddp:2,1|3,2"], rules, [("gradients", "float64")])


@pytest.mark.slow
@pytest.mark.parametrize("rule", [TILT, CHOICE])
@pytest.mark.parametrize("wrapper", ["ddp", "fsdp2", "accelerate"])
def test_every_split_in_both_precisions(tmp_path, wrapper, rule):
    splits = ["bare:2,2,2,2", f"{wrapper}:4|4", f"{wrapper}:2|2|2|2", f"{wrapper}:3|5", f"{wrapper}:2,1|3,2"]
    compare(tmp_path, splits, [rule], list(LIMITS))
