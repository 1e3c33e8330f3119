"""The parts of a plan file: the model, the budget, what was spent before, other text, controls, a sweep."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ScratchConfig:
    """A model with random weights: config as `transformers.AutoConfig.for_model` takes it (model_type and sizes).

    tokenizer: a folder or a hub id; vocabulary and special tokens of the config follow it where they are not given.
    """

    config: dict[str, Any]
    tokenizer: str


@dataclass(frozen=True)
class BudgetConfig:
    """The budget of every arm, one of five kinds.

    epochs: passes over the training text; a rule that leaves samples out of an epoch then costs less.
    steps: optimizer steps. tokens: predicted tokens trained on. compute: units, 1 for a token's forward and 2 for its
    backward, with scoring, rows that are dropped after it and what was spent before training; a token costs the same
    in every model. flops: the same operations by the size of the model that does them: a token's forward is 2 for each
    parameter without embeddings, and attention.
    """

    steps: int | None = None
    tokens: int | None = None
    compute: int | None = None
    flops: float | None = None
    epochs: float | None = None


@dataclass(frozen=True)
class PriorConfig:
    """Tokens spent before an arm's first step: scored (1 unit each), trained on (3 each; a reference model).

    scorer, learner: the models that did so, which a budget of flops must know; the learner is the arm's reference
    model where none is named. They may hold {seed}.
    """

    scored: int = 0
    trained: int = 0
    scorer: str | None = None
    learner: str | None = None

    @property
    def units(self) -> int:
        """The cost in units of compute: 1 per scored token, 3 per token trained on."""
        return self.scored + 3 * self.trained


@dataclass(frozen=True)
class DomainConfig:
    """Other text that the arms are evaluated on, never trained on. documents, windows: how many, and of each."""

    path: str
    text_field: str = "text"
    documents: int = 200
    windows: int | None = None
    name: str | None = None
    split: str = "train"


@dataclass(frozen=True)
class ControlsConfig:
    """The default controls. rates: the control at these multiples of its learning rate, which a tuned plan has not.

    random: for every selecting arm a random selection of the same share. oracle: the control on the documents without a
    label alone: what leaving out all that is labelled gains. stop_early: the control and the oracle run first, and
    nothing else does if the oracle's gain is, with 95% confidence, below min_effect. average: the control's weights
    averaged with those it started from, in as many shares as there are evaluations, untrained: the cheapest way to
    forget less.
    """

    rates: list[float] = field(default_factory=lambda: [0.5, 2.0])
    random: bool = True
    oracle: bool = False
    stop_early: bool = False
    average: bool = False


@dataclass(frozen=True)
class FrontsConfig:
    """What is learned and what may be forgotten: losses on `old` sets are compared at equal loss on the set `new`."""

    old: list[str]
    new: str = "held_out"


@dataclass(frozen=True)
class TuneConfig:
    """A grid that every arm is tuned on, with one run for each point, under the plan's budget and one seed.

    learning_rate, batch: multiples of the arm's learning rate, and of its rows in a micro-batch. The point of lowest
    loss on development documents is taken for all seeds. documents: how many of these; of held-out text that is not
    evaluated (the rest of data.held_out), or of path, in the form of the plan's data. seed: of the trials.
    """

    learning_rate: list[float] = field(default_factory=list)
    batch: list[float] = field(default_factory=list)
    documents: int = 100
    path: str | None = None
    seed: int = 1000


@dataclass(frozen=True)
class SweepConfig:
    """A grid over numbers of one rule: rule holds {name}s, values gives each name its numbers."""

    rule: str
    values: dict[str, list[float]]
