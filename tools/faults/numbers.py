"""Bad numbers on one process of four: every process must end, all alike, and with finite parameters."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from faults.outcome import Clean, Outcome
from faults.server import run
from faults.trainings import Rows
from faults.victims import Victim

RANKS = 4
BAD = {"NaN": float("nan"), "infinity": float("inf"), "overflow": 1e38}
PLACES = ("losses", "weights", "references", "gradients")
RULES = ("ir_dro(r=1.0)", "chain(band(drop_top=0.25), ir_dro(r=1.0))", 'by("excess", top_k(0.5))')


class _Weighed(Rows):
    """Rows with a weight and a reference loss, of which one may be bad."""

    def __init__(self, place: str, value: float, bad: int) -> None:
        super().__init__()
        self.place, self.value, self.bad = place, value, bad

    def __getitem__(self, index: int) -> dict[str, Any]:
        columns = {"sample_weight": 1.0, "reference_loss": 3.0}
        if index == self.bad and self.place in ("weights", "references"):
            columns[{"weights": "sample_weight", "references": "reference_loss"}[self.place]] = self.value
        return {**super().__getitem__(index), **columns}


def bad_number(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """In the loss or the gradient of one micro-batch, in a weight or in a reference loss of the data."""
    (name, value), place, rule = dice.choice(list(BAD.items())), dice.choice(PLACES), dice.choice(RULES)
    rank, forward = dice.randrange(RANKS), dice.randint(1, 6)
    found = run(partial(_train, rule, place, value, rank, forward), folder, ranks=RANKS)
    what = f"{name} in {place} of process {rank}, forward {forward}, {rule}"
    fault = _wrong(found, folder, finite=place != "gradients")
    return Outcome("bad numbers", f"WeightedTrainer, {RANKS} processes", what, fault=fault)


def _wrong(found: Any, folder: Path, finite: bool) -> str:
    """finite: whether parameters must be. A bad gradient of good losses is seen one step later, as by the Trainer."""
    if found.hung:
        return f"hung: {found.said[-300:]}"
    if len(set(found.codes)) > 1:
        return f"processes ended differently, {found.codes}: {found.said[-400:]}"
    if found.code:
        last = found.said.rstrip().splitlines()[-1] if found.said.strip() else ""
        return "" if "SamplewiseError" in found.said else f"no sentence: {last[:300]}"
    ends = [json.loads((folder / f"end-{rank}.json").read_text()) for rank in range(RANKS)]
    if finite and not all(end["finite"] for end in ends):
        return "parameters that are not finite"
    return "" if len({end["weights"] for end in ends}) == 1 else "processes with different parameters"


def _train(rule: str, place: str, value: float, at_rank: int, at_forward: int, folder: Path) -> None:
    import hashlib
    import os

    import torch
    import transformers
    from transformers import TrainingArguments

    from samplewise.trainers import WeightedTrainer

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=64, **sizes))
    rank, forwards, backwards = int(os.environ["RANK"]), [0], [0]

    def poison(module: Any, given: Any, output: torch.Tensor) -> torch.Tensor | None:
        forwards[0] += 1
        if place != "losses" or rank != at_rank or forwards[0] != at_forward:
            return None
        bad = torch.zeros_like(output)
        bad[0] = value
        return output + bad

    def poison_gradient(gradient: torch.Tensor) -> torch.Tensor:
        backwards[0] += 1
        return gradient + value if rank == at_rank and backwards[0] == at_forward else gradient

    model.get_input_embeddings().register_forward_hook(poison)
    if place == "gradients":
        next(model.parameters()).register_hook(poison_gradient)
    args = TrainingArguments(
        output_dir=str(folder / "out"), max_steps=3, save_strategy="no", use_cpu=True, report_to="none", seed=3,
        per_device_train_batch_size=2, gradient_accumulation_steps=2, learning_rate=1e-2, disable_tqdm=True,
        dataloader_pin_memory=False, ddp_timeout=60,
    )  # fmt: skip
    trainer = WeightedTrainer(model, args, train_dataset=_Weighed(place, value, 5), rule=rule)  # pyright: ignore
    trainer.train()
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    end = {"finite": bool(flat.isfinite().all()), "weights": hashlib.sha256(flat.numpy().tobytes()).hexdigest()}
    (folder / f"end-{rank}.json").write_text(json.dumps(end))
