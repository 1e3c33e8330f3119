"""The rule sees stored losses, so rows are chosen before any forward; what has none, and a probe, is scored."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from samplewise.core.distributed import gather_fields, largest
from samplewise.core.host import host, positions
from samplewise.core.micro_batch import MicroBatch
from samplewise.core.rule import State
from samplewise.engine.base_weights import counts_of
from samplewise.engine.context import StepContext
from samplewise.engine.dealing import deal
from samplewise.engine.exchange import most_needed, of_all_ranks
from samplewise.engine.loss_history import LossHistory
from samplewise.engine.modes.without_scoring import WithoutScoring
from samplewise.engine.rows import rows_of
from samplewise.engine.staleness import Staleness
from samplewise.losses.evaluation import evaluating


class Stored(WithoutScoring):
    """Forward and backward of the kept samples, and a forward of new samples and of 5% of the others."""

    name = "stored"

    def __init__(self, context: StepContext, history: LossHistory) -> None:
        super().__init__(context)
        self.history = history

    def begin(self, model: nn.Module, batches: list[MicroBatch]) -> list[MicroBatch]:
        """Looks losses up, scores what has none, plans, deals the kept rows."""
        found = [self.history.look_up(micro) for micro in batches]
        stored, of_step = (torch.cat([each[k] for each in found]) for k in (0, 1))
        ids = torch.cat([micro.id for micro in batches])
        tokens = torch.cat([counts_of(micro).cpu() for micro in batches])
        wanted = (tokens > 0) & (~stored.isfinite() | Staleness.probe(ids, self.context.step))
        chosen = positions(wanted)
        with self.context.clock.timed("score"):
            fresh = self._fresh(model, batches, wanted)
        fields = {"id": ids, "stored": stored, "fresh": fresh, "of_step": of_step, "tokens": tokens}
        probed, _ = gather_fields({name: value[chosen] for name, value in fields.items()}, self.context.device)
        self.scored_tokens = int(host(probed["tokens"]).sum())
        self.history.compare(probed, self.context.step)
        return self._begin(batches, torch.where(stored.isfinite(), stored, fresh), tokens)

    def _learned(self) -> State:
        """What the plan made of the stored losses: those the rule has seen."""
        return self.plan.state

    def _fresh(self, model: nn.Module, batches: list[MicroBatch], wanted: Tensor) -> Tensor:
        """[n] losses of the wanted samples, NaN for the others; as many forwards on every rank."""
        counts, device = [len(micro) for micro in batches], self.context.device
        marked = [replace(m, coefficient=w.double()) for m, w in zip(batches, wanted.split(counts), strict=True)]
        given = [row for micro in marked for row in rows_of(micro)]
        mine = [row for row in given if host(row.samples["coefficient"]).any()]
        capacity = largest(self.context.capacity, device)
        sizes = of_all_ranks([row.size for row in mine], device)
        fresh = torch.full((len(wanted),), torch.nan, dtype=torch.float64)
        if not any(sizes):
            return fresh
        chosen = deal(mine, given[0], capacity, most_needed(sizes, capacity))
        with evaluating(model):
            pairs = [self.context.forward.losses(model, micro) for micro in chosen]
        loss = torch.cat([losses for losses, _ in pairs]).cpu().double()
        ids = torch.cat([micro.id for micro in chosen])
        real = positions(torch.cat([m.coefficient for m in chosen if m.coefficient is not None]) > 0)  # not blank
        scored = dict(zip(ids[real].tolist(), loss[real].tolist(), strict=True))
        at = positions(wanted)
        names = torch.cat([micro.id for micro in batches])[at].tolist()
        fresh[at] = torch.tensor([scored[name] for name in names], dtype=torch.float64)
        return fresh
