"""The figures of each step and a histogram of the weights, small enough for every checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
from torch import Tensor

from samplewise.core.checkpoint import write_bytes
from samplewise.core.json_file import as_written, read_json

FILE = "history.json"
CURVES = ("loss", "weighted_loss", "ess", "max_weight", "kl", "kept", "length_corr", "samples")
EDGES = [2 ** (k / 4) for k in range(-32, 33)]
"""Bins of positive weights: four an octave, from 1/256 to 256; what lies outside is counted in the last bin."""


@dataclass
class History:
    """curves: one value a step of each of `CURVES`. bins: samples by weight; left_out: those of weight 0.

    samples: of all steps, those left out included. tokens: predicted tokens trained on. seconds: wall time by phase.
    groups: the weight of every group after each step, where the rule learns some; NaN before a group is met.
    units: what the steps cost: 1 for each token of a forward, 2 for each of a backward; scoring included.
    reference: the units among them that a reference model's forwards cost.
    labels: by label [weight, samples seen, predicted tokens trained on], where a plan names labels.
    """

    curves: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in CURVES})
    bins: list[int] = field(default_factory=lambda: [0] * (len(EDGES) - 1))
    left_out: int = 0
    samples: int = 0
    tokens: int = 0
    units: int = 0
    reference: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    groups: dict[str, list[float]] = field(default_factory=dict)
    labels: dict[str, list[float]] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """The number of steps added so far."""
        return len(self.curves["loss"])

    def add(self, figures: Mapping[str, float], weights: Tensor, samples: int, tokens: int, units: int = 0) -> None:
        """Add the figures of a finished step.

        weights: mean 1 over its samples, 0 for what is left out. tokens: predicted ones of the samples trained on.
        units: the step's cost.
        """
        for name, values in self.curves.items():
            values.append(float(figures[name]))
        positive = weights.abs()[weights != 0].double().clamp(EDGES[0], EDGES[-1] * (1 - 1e-9))
        places = torch.bucketize(positive, torch.tensor(EDGES, dtype=torch.float64), right=True) - 1
        counts = torch.bincount(places, minlength=len(self.bins)).tolist()
        self.bins = [a + b for a, b in zip(self.bins, counts, strict=True)]
        self.left_out += samples - len(positive)
        self.samples += samples
        self.tokens += tokens
        self.units += units

    def add_groups(self, weights: Mapping[int, float]) -> None:
        """Add the weights of groups after the step that `add` was given."""
        for name in [str(name) for name in weights if str(name) not in self.groups]:
            self.groups[name] = [math.nan] * (self.steps - 1)
        for name, weight in weights.items():
            self.groups[str(name)].append(weight)

    def add_labels(self, tally: Mapping[str, Sequence[float]]) -> None:
        """Add what a step gave to each label."""
        for kind, values in tally.items():
            before = self.labels.get(kind, [0.0] * len(values))
            self.labels[kind] = [a + b for a, b in zip(before, values, strict=True)]

    def spend(self, phase: str, seconds: float) -> None:
        """Add wall time to a phase."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def save(self, folder: Path) -> None:
        """Write the history into the folder of a checkpoint."""
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / FILE, json.dumps(asdict(self)).encode())

    @staticmethod
    def load(folder: Path) -> History:
        """The history that `save` wrote, or an empty one if there is none."""
        path = folder / FILE
        if not path.exists():
            return History()
        values = read_json(path, "the history of a run", "Resume from another checkpoint.")
        with as_written(path, "the history of a run", "Resume from another checkpoint."):
            found = History(**{each.name: values[each.name] for each in fields(History) if each.name in values})
            if {len(found.curves[name]) for name in CURVES} != {found.steps} or len(found.bins) != len(EDGES) - 1:
                raise ValueError("curves or bins of other lengths")
            return found
