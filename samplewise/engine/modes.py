"""Three ways to run a step. Each plans the N samples of one optimizer step and owns its division.

A mode is made for one step: `begin` turns the micro-batches into those to run, `objective` is called in each one's
forward, `end` once after the last backward, before clipping. Gradients are averaged over ranks by DDP and FSDP2, so
objectives are multiplied by the number of ranks.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from samplewise.core.clock import Clock
from samplewise.core.columns import BEFORE, COEFFICIENT, ID, LAST, MASS, OPTIONAL, SEGMENTS, TOKEN_WEIGHTS, Batch
from samplewise.core.distributed import gather_fields, largest, rank, world_size
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule, State
from samplewise.core.samples import Samples
from samplewise.core.weighing import present_by_id
from samplewise.engine.agreement import check_agreement, is_fp32
from samplewise.engine.exchange import fair_shares, most_needed, move_rows, worth_moving
from samplewise.engine.plan import Plan, learned, no_token_in_step, normaliser, plan_step
from samplewise.engine.rows import deal, rows, without_empty_rows
from samplewise.engine.token_selection import choose_tokens
from samplewise.losses.evaluation import score, scoring
from samplewise.losses.forward import Forward, Outcome
from samplewise.losses.token_losses import sample_means, token_counts
from samplewise.rules.tokens import TokenRule

FACTORS = (math.exp(-40), math.exp(40))
"""Where the largest factor of a one-pass step must lie: far inside fp32, gradients included."""


class Redo(Exception):  # noqa: N818 - not an error: the one way back
    """A step's factors cannot be used; nothing has moved, and the same micro-batches go through `TwoPass`."""


@dataclass(frozen=True)
class Setting:
    """What the modes share.

    unit: brings factors near 1/N, so that gradients before the division are of the size of those after it.
    tokens: which tokens of the samples count, before the rule weighs samples; None: all that are predicted.
    per_token: whether a sample counts by its tokens.
    scale: multiplies the objective of the whole step and the reported loss: what the host's own divisor differs by.
    size: rows (of packed ones: tokens) that a micro-batch that is trained on may hold.
    """

    rule: Rule
    state: State
    forward: Forward
    device: torch.device
    size: int
    max_nonfinite: float = 0.01
    unit: float = 1.0
    scale: float = 1.0
    clock: Clock = field(default_factory=Clock)
    tokens: TokenRule | None = None
    per_token: bool = False


class Mode(ABC):
    """What every mode has: the plan of its step, known at the latest when the last objective was computed."""

    name: str
    plan: Plan
    samples: Samples  # of every rank, in the plan's order
    scored = False  # whether a pass without gradient comes before

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.parts: list[dict[str, Tensor]] = []
        self.count = 0  # micro-batches to run
        self.router: list[Tensor] = []  # its load-balancing loss before the coefficient, of each micro-batch that runs
        self.own = 0.0  # the terms that the model and its adapters add, averaged over the micro-batches that run

    @abstractmethod
    def begin(self, model: nn.Module, batches: list[Batch]) -> list[Batch]:
        """The micro-batches to run, at most as many, as many on every rank."""

    @abstractmethod
    def objective(self, model: nn.Module, batch: Batch) -> Tensor:
        """[] what to call backward on."""

    def end(self, parameters: Callable[[], Iterable[Tensor]]) -> None:  # noqa: B027 - most have nothing to divide
        """After the last backward, before clipping."""

    @property
    def loss(self) -> float:
        """The unweighted mean loss of the step, as the host would report it."""
        return self.plan.figures["loss"] * self.setting.scale

    def _planned(self, step: dict[str, Tensor]) -> Plan:
        """The plan from every rank's fields, the same on each."""
        setting, self.samples = self.setting, _samples(step)
        plan = plan_step(
            setting.rule, self.samples, setting.state, mass=step["mass"], max_nonfinite=setting.max_nonfinite
        )
        if "before" not in step:
            return plan
        kept = float(step["tokens"].sum() / step["before"].sum().clamp(min=1))
        return replace(plan, figures={**plan.figures, "tokens_kept": kept})

    def _begin(self, batches: list[Batch], loss: Tensor, tokens: Tensor) -> list[Batch]:
        """Plan from these losses, and deal the kept rows."""
        with self.setting.clock.timed("rule"):
            names = [key for key in (ID, MASS, BEFORE, *OPTIONAL) if key in batches[0]]
            whole = {key: torch.cat([batch[key].cpu() for batch in batches]) for key in names}
            step, spans = gather_fields(_fields(loss, tokens, whole), self.setting.device)
            self.plan = self._planned(step)
            return self._dealt(batches, [self.plan.coefficients[span] for span in spans])

    def _marked(self, trained: list[Batch]) -> list[Batch]:
        self.count = len(trained)
        return [*trained[:-1], {**trained[-1], LAST: torch.ones(())}]

    def _dealt(self, batches: list[Batch], coefficients: list[Tensor]) -> list[Batch]:
        """The rows of positive coefficient in as few micro-batches as possible, as many on every rank.

        coefficients: of every rank's samples. Rows move between ranks only where that saves a micro-batch.
        """
        own, counts = coefficients[rank()], [len(batch[ID]) for batch in batches]
        marked = [{**b, COEFFICIENT: c} for b, c in zip(batches, own.split(counts), strict=True)]
        if all(bool((each > 0).all()) for each in coefficients):
            return self._marked(marked)
        device = self.setting.device
        given = [row for batch in marked for row in rows(batch)]
        mine = [row for row in given if bool((row.samples[COEFFICIENT] > 0).any())]
        sizes = of_all_ranks([row.size for row in mine], device)
        capacity = largest(self.setting.size, device)
        moving = worth_moving(sizes, capacity)
        if moving:
            shares = fair_shares(sizes)
            mine = move_rows(mine, shares, given[0], device)
            sizes = [[sizes[owner][number] for owner, number in share] for share in shares]
        count = min(max(1, most_needed(sizes, capacity)), len(batches))  # chance may have dropped them all
        if not moving and len(mine) == len(given) and count == len(batches):
            return self._marked(marked)
        return self._marked(deal(mine, given[0], max(1, math.ceil(len(mine) / count)), count))

    def _known(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Outcome]:
        """Σ coefficient × loss, for coefficients that sum to 1 over the step; and the model's own term, if any."""
        scale = world_size() * self.setting.scale
        factors = batch[COEFFICIENT].to(self.setting.device) * scale
        out = self.setting.forward.objective(model, batch, factors, tally=not self.scored)
        if out.router is not None:
            self.router.append(out.router)
        if out.aux is None:
            return out.value, out
        self.own = self.own + out.aux.detach() / self.count
        return out.value + out.aux / self.count, out


class TwoPass(Mode):
    """Score everything without gradient, weigh, then train on what is kept: exact for any rule."""

    name = "two_pass"
    scored = True

    def begin(self, model: nn.Module, batches: list[Batch]) -> list[Batch]:
        """Scores all, plans, deals the kept rows."""
        setting = self.setting
        with setting.clock.timed("score"):
            if setting.tokens is None:
                loss, tokens = score(model, batches, setting.forward.losses)
                return self._begin(batches, loss, tokens)
            with scoring(model):
                losses = [setting.forward.token_losses(model, batch) for batch in batches]
            chosen = choose_tokens(setting.tokens, batches, losses, setting.device, per_token=setting.per_token)
            pairs = [_means(loss, batch) for loss, batch in zip(losses, chosen, strict=True)]
        return self._begin(chosen, torch.cat([loss for loss, _ in pairs]), torch.cat([count for _, count in pairs]))

    def objective(self, model: nn.Module, batch: Batch) -> Tensor:
        """Σ coefficient × loss."""
        return self._known(model, batch)[0]


class LossFree(Mode):
    """One pass for rules that need no loss: rows are chosen before any forward, the losses come with the training."""

    name = "one_pass"

    def begin(self, model: nn.Module, batches: list[Batch]) -> list[Batch]:
        """Plans from ids and token counts, deals the kept rows."""
        tokens = torch.cat([counts_of(batch).cpu() for batch in batches])
        return self._begin(batches, torch.zeros(len(tokens)), tokens)

    def objective(self, model: nn.Module, batch: Batch) -> Tensor:
        """Σ coefficient × loss; the losses are known after the last one."""
        value, out = self._known(model, batch)
        self.parts.append({**_fields(out.loss, out.tokens, batch), "coefficient": batch[COEFFICIENT].cpu()})
        if LAST in batch:
            with self.setting.clock.timed("rule"):
                self._settle()
        return value

    def _settle(self) -> None:
        """Fill in the losses, which are those of the samples trained on."""
        step, _ = gather_fields(_joined(self.parts), self.setting.device)
        run = step["coefficient"] > 0
        loss, mass, coefficient = step["loss"][run], step["mass"][run], step["coefficient"][run]
        if not bool(torch.isfinite(loss).all()):
            raise Redo("a loss is not finite")
        if not bool(run.any()):  # chance has dropped them all
            return
        self.samples = replace(self.samples, loss=_filled(self.samples.id, step, run))
        means = {"loss": float((loss * mass).sum() / mass.sum()), "weighted_loss": float((loss * coefficient).sum())}
        self.plan = replace(self.plan, figures=self.plan.figures | means, state=self._learned())

    def _learned(self) -> State:
        """The rule's state, now that the losses are known."""
        return learned(self.setting.rule, self.samples, self.setting.state)


class OnePass(Mode):
    """Factors from each sample's own fields and past state, in its training forward; one division at the end."""

    name = "one_pass"
    rescale: float | None = None
    coarse = False  # whether a factor on this rank was computed in fp32

    def begin(self, model: nn.Module, batches: list[Batch]) -> list[Batch]:
        """All of them, without rows that predict nothing."""
        return self._marked([without_empty_rows(batch) for batch in batches])

    def objective(self, model: nn.Module, batch: Batch) -> Tensor:
        """Σ factor × mass × loss, to be divided at the end."""
        setting, factor = self.setting, self.setting.rule.factor
        ids, mass = batch[ID].to(setting.device), batch[MASS].to(setting.device)
        more = {name: batch[key].to(setting.device) for key, name in OPTIONAL.items() if key in batch}
        before = batch[BEFORE].to(setting.device) if setting.tokens is not None and setting.per_token else None
        assert factor is not None, "the mode is chosen by the rule"

        def factors(loss: Tensor, tokens: Tensor, index: Tensor) -> Tensor:
            wide = loss if loss.device.type == "mps" else loss.double()  # exp multiplies the exponent's error
            own = {name: value[index] for name, value in more.items()}
            counts = mass[index] if before is None else mass[index] * tokens / before[index]
            found = factor(Samples(wide, tokens, ids[index], **own), setting.state)
            self.coarse |= is_fp32(found)
            return found * counts / setting.unit

        out = setting.forward.objective(model, batch, factors, select=setting.tokens)
        fields = {**_fields(out.loss, out.tokens, batch), "factor": out.factors.double().cpu()}
        if before is not None:
            fields["mass"] = fields["mass"] * fields["tokens"] / batch[BEFORE].clamp(min=1)
        self.parts.append(fields)
        if LAST in batch:
            with setting.clock.timed("rule"):
                self.rescale = self._settle()
            if self.count == 1:  # known before the only backward: no pass over the gradients
                value, self.rescale = out.value * self.rescale, None
                return value
        return out.value

    def end(self, parameters: Callable[[], Iterable[Tensor]]) -> None:
        """The one division of the step."""
        if self.rescale is not None:
            gradients = [p.grad for p in parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, self.rescale)

    def _settle(self) -> float:
        """What gradients are multiplied by, ranks / Σu over all; raises Redo where the factors cannot be used."""
        own = _joined(self.parts)
        own["coarse"] = torch.full_like(own["id"], int(self.coarse))
        step, _ = gather_fields(own, self.setting.device)
        present = step["tokens"] > 0
        if not bool(present.any()):
            raise no_token_in_step()
        factor = step["factor"][present]
        if not bool((torch.isfinite(step["loss"][present]) & torch.isfinite(factor)).all()):
            raise Redo("a loss or a factor is not finite")
        largest_factor = float(factor.max()) * self.setting.unit
        if not FACTORS[0] <= largest_factor <= FACTORS[1]:
            raise Redo(f"the largest factor is {largest_factor:.3g}")
        self.plan = self._planned(step)
        divisor = normaliser(self.setting.rule, factor, step["mass"][present] / self.setting.unit)
        check_agreement(
            self.setting.rule, factor / divisor, self.plan.coefficients[present], step["id"][present],
            coarse=bool(step["coarse"].any()), raw=self._applied,
        )  # fmt: skip
        return world_size() * self.setting.scale / divisor

    def _applied(self) -> Tensor:
        """[N] what the rule's exact form says, before any division."""
        rule, taken = self.setting.rule, self.samples.select(present_by_id(self.samples))
        return rule.apply(torch.ones_like(taken.loss), taken, self.setting.state)


class Micro(Mode):
    """`normalize="micro"`: weights sum to 1 per micro-batch and rank, as published code has it. Another estimator."""

    name = "micro"

    def begin(self, model: nn.Module, batches: list[Batch]) -> list[Batch]:
        """All of them, as they are."""
        self.plans: list[Plan] = []
        return self._marked(batches)

    def objective(self, model: nn.Module, batch: Batch) -> Tensor:
        """Σ weight × loss with weights of this micro-batch alone, over the number of micro-batches."""
        setting = self.setting
        losses, tokens = setting.forward.losses(model, batch, differentiable=True)
        fields = _fields(losses.detach(), tokens, batch)
        coefficients = fields["given"] = torch.zeros_like(fields["loss"])
        self.parts.append(fields)
        if bool(((fields["tokens"] > 0) & ~torch.isfinite(fields["loss"])).any()):
            ids = fields["id"][~torch.isfinite(fields["loss"])].tolist()
            raise SamplewiseError(
                "loss", expected="finite losses with normalize='micro'", got=f"others, ids {ids}",
                remedy="Their forward has run: only normalize='step' can leave such rows out.",
            )  # fmt: skip
        if bool((tokens > 0).any()):
            samples = _samples(fields)
            self.plans.append(plan_step(setting.rule, samples, setting.state, mass=fields["mass"], max_nonfinite=0.0))
            coefficients, fields["given"] = self.plans[-1].coefficients, self.plans[-1].weights
        if LAST in batch:
            with self.setting.clock.timed("rule"):
                self._settle()
        return (coefficients.to(losses) * losses).sum() / self.count

    def _settle(self) -> None:
        """One update of the rule, with all samples of all ranks; figures are means over this rank's micro-batches."""
        if not self.plans:
            raise no_token_in_step()
        step, _ = gather_fields(_joined(self.parts), self.setting.device)
        order = torch.argsort(step["id"], stable=True)
        present = order[step["tokens"][order] > 0]
        samples = self.samples = _samples(step).select(present)
        state = self.setting.rule.update(samples, torch.ones_like(samples.loss), self.setting.state)
        names, n = self.plans[0].figures, len(self.plans)
        figures = {name: sum(plan.figures[name] for plan in self.plans) / n for name in names}
        self.plan = replace(self.plans[-1], state=state, figures=figures, weights=step["given"][present])


def choose(setting: Setting, *, normalize: str = "step", one_pass: bool = True, own_term: bool = False) -> Mode:
    """The mode for the next step.

    one_pass: False where gradients cannot be multiplied before clipping (DeepSpeed).
    own_term: the model adds a loss term of its own, which a factor on all gradients would scale too.
    """
    if normalize == "micro":
        return Micro(setting)
    if not setting.rule.needs_loss and setting.tokens is None:
        return LossFree(setting)
    within = setting.tokens is None or setting.tokens.scope == "sample"
    if one_pass and within and not own_term and setting.rule.pointwise and setting.rule.ready(setting.state):
        return OnePass(setting)
    return TwoPass(setting)


def _fields(loss: Tensor, tokens: Tensor, batch: Batch) -> dict[str, Tensor]:
    fields = {
        "loss": loss.detach().double().cpu(),
        "tokens": tokens.to(torch.int64).cpu(),
        "id": batch[ID].to(torch.int64).cpu(),
        "mass": batch[MASS].double().cpu(),
    }
    more = {**OPTIONAL, BEFORE: "before"}
    return fields | {name: batch[key].cpu() for key, name in more.items() if key in batch}


def _samples(step: dict[str, Tensor]) -> Samples:
    more = {name: step[name] for name in OPTIONAL.values() if name in step}
    return Samples(step["loss"], step["tokens"], step["id"], **more)


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def counts_of(batch: Batch) -> Tensor:
    """[n] predicted tokens of a micro-batch's samples."""
    return token_counts(batch["labels"], batch.get(TOKEN_WEIGHTS), batch.get(SEGMENTS))


def _means(loss: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    return sample_means(loss, batch["labels"], segments=batch.get(SEGMENTS), token_weights=batch[TOKEN_WEIGHTS])


def of_all_ranks(sizes: list[int], device: torch.device) -> list[list[int]]:
    """Every rank's list of sizes."""
    whole, spans = gather_fields({"size": torch.tensor(sizes, dtype=torch.int64)}, device)
    return [whole["size"][span].tolist() for span in spans]


def _filled(ids: Tensor, step: dict[str, Tensor], run: Tensor) -> Tensor:
    """[N] losses of the samples that were trained on, by id; NaN for those that were not."""
    name, order = step["id"][run].sort(stable=True)
    at = torch.searchsorted(name, ids).clamp(max=len(name) - 1)
    return torch.where(name[at] == ids, step["loss"][run][order][at], math.nan)
