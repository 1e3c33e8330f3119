"""One pass: unnormalized weights from each sample's own fields and past state, and one division at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from samplewise.core.distributed import gather_fields, world_size
from samplewise.core.errors import SamplewiseError
from samplewise.core.host import exact_dtype, host, on_device, positions, wide
from samplewise.core.micro_batch import MicroBatch
from samplewise.core.samples import Samples
from samplewise.core.weighing import no_token_in_step, present_by_id
from samplewise.engine.agreement import check_agreement, is_fp32
from samplewise.engine.context import StepContext
from samplewise.engine.dealing import without_empty_rows
from samplewise.engine.modes.base import Mode, RetryInTwoPasses
from samplewise.engine.modes.parts import Parts
from samplewise.engine.plan import normalizer
from samplewise.losses.kernels import Factor
from samplewise.losses.sharded import own_part

MIN_LARGEST_FACTOR, MAX_LARGEST_FACTOR = math.exp(-40), math.exp(40)
"""Where the largest unnormalized weight of a step must lie: far inside fp32, gradients included."""


class OnePass(Mode):
    """One forward and backward of every sample: costs what a plain step costs."""

    name = "one_pass"

    def __init__(self, context: StepContext) -> None:
        super().__init__(context)
        self.parts = Parts()
        self.rescale: float | None = None

    def begin(self, model: nn.Module, batches: list[MicroBatch]) -> list[MicroBatch]:
        """All of them, without rows that predict nothing."""
        return self._marked(without_empty_rows(batches))

    def objective(self, model: nn.Module, micro: MicroBatch) -> Tensor:
        """Σ unnormalized weight × base weight × loss, to be divided at the end."""
        out = self.context.forward.objective(model, micro, self._factors(micro), select=self.context.token_rule)
        self.parts.add(micro, out)
        if not micro.last:
            return out.value
        with self.context.clock.timed("rule"):
            self.rescale = self._settle(out.value)
        if self.count > 1:
            return out.value
        value, self.rescale = out.value * self.rescale, None  # known before the only backward: gradients are not read
        return value

    def _factors(self, micro: MicroBatch) -> Factor:
        """The factor of each sample from its own loss: (loss [k], tokens [k], index [k]) -> [k]."""
        context, device = self.context, self.context.device
        factor, ids = context.rule.factor, on_device(host(micro.id), device)
        assert factor is not None, "the mode is chosen by the rule"
        assert micro.base_weight is not None, "prepared before any pass"
        given = {name: on_device(host(value), device) for name, value in micro.rule_fields().items()}
        base, before = on_device(host(micro.base_weight), device), self._tokens_before(micro)

        def factors(loss: Tensor, tokens: Tensor, index: Tensor) -> Tensor:
            exact = loss.to(exact_dtype(loss.device))  # exp multiplies the exponent's error
            samples = Samples(exact, tokens, ids[index], **{name: value[index] for name, value in given.items()})
            counts = base[index] if before is None else base[index] * tokens / before[index]
            found = factor(samples, context.state)
            self.parts.coarse.append(is_fp32(found))
            return found * counts / context.unit

        return factors

    def _tokens_before(self, micro: MicroBatch) -> Tensor | None:
        """[n] predicted tokens before the token rule, where a sample counts by what is left of them."""
        if self.context.per != "token" or micro.tokens_before is None:
            return None
        return on_device(host(micro.tokens_before), self.context.device)

    def end(self, parameters: Callable[[], Iterable[Tensor]]) -> None:
        """The one division of the step."""
        if self.rescale is not None:
            gradients = [own_part(p.grad) for p in parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, self.rescale)

    def _settle(self, objective: Tensor) -> float:
        """What gradients are multiplied by, ranks / Σu over all; raises where the factors cannot be used."""
        fields = self.parts.fields()
        if "tokens_before" in fields and self.context.per == "token":
            fields["base_weight"] = fields["base_weight"] * fields["tokens"] / fields["tokens_before"].clamp(min=1)
        step, _ = gather_fields(fields, self.context.device)
        present = positions(step["tokens"] > 0)
        if not len(present):
            raise no_token_in_step()
        factor = step["factor"][present]
        self._check(step["loss"][present], factor, step["id"][present], objective)
        self.plan = self._planned(step)
        self.run_tokens = self.all_tokens
        divisor = self._divisor(factor, step["base_weight"][present], step["tokens"][present])
        check_agreement(
            self.context.rule, factor / divisor, self.plan.coefficients[present], step["id"][present],
            coarse=bool(host(step["coarse"]).any()), raw=self._applied,
        )  # fmt: skip
        return world_size() * self.context.scale / divisor

    def _divisor(self, factor: Tensor, base_weight: Tensor, tokens: Tensor) -> float:
        context = self.context
        found = normalizer(context.rule, factor, base_weight / context.unit, tokens, context.norm)
        return found / context.unit if context.norm == "nonzero_tokens" else found

    def _applied(self) -> Tensor:
        """[N] what the rule's exact form says, before any division."""
        taken = self.samples.select(present_by_id(self.samples))
        return self.context.rule.apply(torch.ones_like(taken.loss), taken, self.context.state)

    def _check(self, loss: Tensor, factor: Tensor, ids: Tensor, objective: Tensor) -> None:
        """Errors: RetryInTwoPasses unless all is finite and the largest factor far inside fp32.

        SamplewiseError, on all ranks, where a rule gives no number for a loss that is finite.
        """
        bad = host(factor.isnan() & loss.isfinite())
        if bad.any():
            raise SamplewiseError(
                "factors", expected="numbers",
                got=f"nan for ids {host(ids)[bad][:3].tolist()} from {self.context.rule}",
                remedy="A factor is an unnormalized weight; leave a sample out with 0.",
            )  # fmt: skip
        if not host(torch.isfinite(loss) & torch.isfinite(factor)).all():
            raise RetryInTwoPasses("a loss or a factor is not finite", objective)
        largest = float(np.abs(wide(factor)).max()) * self.context.unit
        if not MIN_LARGEST_FACTOR <= largest <= MAX_LARGEST_FACTOR:
            raise RetryInTwoPasses(f"the largest factor is {largest:.3g}", objective)
