"""One configuration to try, drawn from its seed alone: the seed names it, and finds it again."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, replace
from typing import Any

from fuzz.gradients.adapters import ADAPTERS
from fuzz.gradients.formulas import RULES, SMOOTH
from fuzz.gradients.models import ARCHITECTURES, ROUTED


@dataclass(frozen=True)
class Case:
    """seed: of model, data and this configuration. rows: of the step; size: rows of a micro-batch.

    rule: a row of the oracle's table. form: how rows become micro-batches.
    host: which trainer or loop runs it; ddp is the loop on two processes.
    token_weights: whether the data has any. empty: whether a row predicts nothing.
    router: whether the model adds its load-balancing term to the loss. keep_tokens: the share that `rho1` keeps.
    talr: the temperature of `talr`, which weighs tokens by their probability; 0 without.
    """

    seed: int
    architecture: str = "llama"
    rule: str = "uniform()"
    per: str = "sample"
    host: str = "loop"
    form: str = "right"
    rows: int = 4
    size: int = 4
    longest: int = 9
    precision: str = "float32"
    attention: str = "sdpa"
    tied: bool = False
    turns: bool = False
    token_weights: bool = False
    empty: bool = False
    adapter: str = "none"
    checkpointing: bool = False
    router: bool = False
    keep_tokens: float = 1.0
    talr: float = 0.0
    logits: str = "refuse"

    def __str__(self) -> str:
        """The configuration without what is as usual."""
        own = {key: value for key, value in asdict(self).items() if key == "seed" or value != SIMPLEST[key]}
        return ", ".join(f"{key}={value}" for key, value in own.items())


SIMPLEST: dict[str, Any] = {key: value for key, value in asdict(Case(0)).items() if key != "seed"}
"""What a shrunk case may go back to, field by field."""


def draw(seed: int) -> Case:
    """The case of this number."""
    dice = random.Random(f"gradients {seed}")
    architecture = dice.choice(ARCHITECTURES)
    precision = dice.choice(["float32"] * 6 + ["float64", "bfloat16", "autocast"])
    rule = dice.choice(list(SMOOTH) if precision in ("bfloat16", "autocast") else list(RULES))
    rows = dice.randint(4, 12)
    case = Case(
        seed, architecture, rule, dice.choice(["sample", "token"]), dice.choice(["trainer", "loop", "ddp", "sft"]),
        dice.choice(["right", "right", "left", "packed", "packed"]), rows, dice.choice([1, 2, 3, rows]),
        dice.choice([6, 12, 20]), precision, dice.choice(["sdpa", "sdpa", "eager"]), dice.random() < 0.4,
        dice.random() < 0.2, dice.random() < 0.2, dice.random() < 0.15,
        dice.choice(["none"] * len(ADAPTERS) + list(ADAPTERS)), dice.random() < 0.25,
        architecture in ROUTED and dice.random() < 0.5, dice.choice([1.0] * 5 + [0.6]),
        dice.choice([0.0] * 4 + [1.0, 3.0]),
        dice.choice(["refuse", "refuse", "allow"]),
    )  # fmt: skip
    return possible(case)


def possible(case: Case) -> Case:
    """The nearest case that a user could ask for, and that the oracle can answer for."""
    if case.router:  # its term is over a micro-batch as it stands, so that the oracle takes one whole
        keeps = case.rule if case.rule in SMOOTH else "uniform()"
        case = replace(case, size=case.rows, form="right", rule=keeps, empty=False)
        case = replace(case, keep_tokens=1.0, precision="float32")
    if case.router and case.adapter == "prompt":  # PEFT's own output then has no such term
        case = replace(case, router=False)
    if case.adapter == "alora" and case.architecture == "opt":  # OPT's layers see tokens in a row; PEFT's aLoRA fails
        case = replace(case, adapter="lora")
    if case.host == "sft":  # TRL pads on the right, and keeps to the weights' own precision
        form = "right" if case.form == "left" else case.form
        case = replace(case, form=form, precision="float32", token_weights=False)
    if case.host in ("loop", "ddp"):
        case = replace(case, keep_tokens=1.0)
    if case.host == "ddp":  # as many micro-batches for each of two processes
        size = min(case.size, max(1, case.rows // 2))
        case = replace(case, router=False, size=size, rows=case.rows // (2 * size) * 2 * size)
    if case.keep_tokens < 1:
        case = replace(case, talr=0.0, token_weights=False, turns=False, adapter="none", precision="float32")
    return replace(case, size=min(case.size, case.rows))
