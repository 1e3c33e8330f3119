"""Losses that are known before a step: from a column of the data, or from each sample's last visit."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from samplewise.core.columns import COEFFICIENT, ID, STORED, Batch
from samplewise.core.distributed import gather_fields, largest
from samplewise.core.rule import State
from samplewise.engine.exchange import most_needed
from samplewise.engine.loss_history import LossMemory, Staleness
from samplewise.engine.modes import LossFree, Mode, Setting, counts_of, of_all_ranks
from samplewise.engine.rows import deal, rows
from samplewise.losses.evaluation import score

NONE = torch.zeros(0, dtype=torch.float64)


@dataclass
class Store:
    """What is remembered between steps: the same on every rank.

    least: below this rank correlation of stored and fresh losses a step's samples are scored afresh.
    """

    least: float
    memory: LossMemory = field(default_factory=LossMemory)
    staleness: Staleness = field(default_factory=Staleness)
    pending: tuple[Tensor, Tensor] | None = None  # what is stored of a step that is scored, in the order of its plan

    def look_up(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """([n] stored losses, nats/token, NaN where there is none; [n] the steps they are of, −1 for a column)."""
        if STORED in batch:
            given = batch[STORED].double().cpu()
            return given, torch.full((len(given),), -1)
        return self.memory.look_up(batch[ID])

    def compare_later(self, batches: list[Batch], device: torch.device) -> None:
        """Look up a step that is going to be scored afresh: the only way back to stored losses is that they fit."""
        found = [self.look_up(batch) for batch in batches]
        fields = {name: torch.cat([each[k] for each in found]) for k, name in enumerate(("stored", "of_step"))}
        step, _ = gather_fields(fields, device)
        self.pending = step["stored"], step["of_step"]

    def learn(self, mode: Mode, step: int) -> None:
        """Take in what a step has scored and trained on: fresh losses, and how the stored ones compare."""
        if isinstance(mode, Stored):
            self.staleness.add(mode.before, mode.after, step - mode.of_step)
            self.memory.store(mode.names, mode.after, step)
        elif self.pending is not None:
            stored, of_step = self.pending
            self.staleness.add(stored, mode.samples.loss, step - of_step)
        self.pending = None
        self.memory.store(mode.samples.id, mode.samples.loss, step)


class Stored(LossFree):
    """The rule sees stored losses, so rows are chosen before any forward; what has none, and a probe, is scored.

    Costs the kept share, and a forward of the samples never seen and of 5% of the others.
    """

    name = "stored"

    def __init__(self, setting: Setting, store: Store, step: int) -> None:
        super().__init__(setting)
        self.store, self.step = store, step
        self.names, self.before, self.after, self.of_step = NONE.long(), NONE, NONE, NONE.long()
        self.scored_tokens = 0  # on this rank

    def begin(self, model: nn.Module, batches: list[Batch]) -> list[Batch]:
        """Looks losses up, scores what has none, plans, deals the kept rows."""
        found = [self.store.look_up(batch) for batch in batches]
        stored, of_step = (torch.cat([each[k] for each in found]) for k in (0, 1))
        ids = torch.cat([batch[ID].cpu() for batch in batches])
        tokens = torch.cat([counts_of(batch).cpu() for batch in batches])
        wanted = (tokens > 0) & (~stored.isfinite() | Staleness.probe(ids, self.step))
        with self.setting.clock.timed("score"):
            fresh = self._fresh(model, batches, wanted)
        fields = {"id": ids, "stored": stored, "fresh": fresh, "of_step": of_step}
        probed, _ = gather_fields({name: value[wanted] for name, value in fields.items()}, self.setting.device)
        self.names, self.before, self.after = probed["id"], probed["stored"], probed["fresh"]
        self.of_step = probed["of_step"]
        self.scored_tokens = int(tokens[wanted].sum())
        return self._begin(batches, torch.where(stored.isfinite(), stored, fresh), tokens)

    def _learned(self) -> State:
        """What the plan made of the stored losses: those the rule has seen."""
        return self.plan.state

    def _fresh(self, model: nn.Module, batches: list[Batch], wanted: Tensor) -> Tensor:
        """[n] losses of the wanted samples, NaN for the others; as many forwards on every rank."""
        counts, device = [len(batch[ID]) for batch in batches], self.setting.device
        marked = [{**b, COEFFICIENT: w.double()} for b, w in zip(batches, wanted.split(counts), strict=True)]
        given = [row for batch in marked for row in rows(batch)]
        mine = [row for row in given if bool((row.samples[COEFFICIENT] > 0).any())]
        capacity = largest(self.setting.size, device)
        sizes = of_all_ranks([row.size for row in mine], device)
        fresh = torch.full((len(wanted),), torch.nan, dtype=torch.float64)
        if not any(sizes):
            return fresh
        dealt = deal(mine, given[0], capacity, most_needed(sizes, capacity))
        loss, tokens = score(model, dealt, self.setting.forward.losses)
        ids = torch.cat([batch[ID].cpu() for batch in dealt])
        scored = dict(zip(ids[tokens.cpu() > 0].tolist(), loss[tokens > 0].double().cpu().tolist(), strict=True))
        names = torch.cat([batch[ID].cpu() for batch in batches])[wanted].tolist()
        fresh[wanted] = torch.tensor([scored[name] for name in names], dtype=torch.float64)
        return fresh
