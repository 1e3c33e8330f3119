"""What the micro-batches of a one-pass step leave behind, until the last: read from the device once a step."""

from __future__ import annotations

import torch
from torch import Tensor

from samplewise.core.host import exact_dtype
from samplewise.core.micro_batch import MicroBatch
from samplewise.engine.modes.base import step_fields
from samplewise.losses.forward import ForwardResult


class Parts:
    """Losses, counts and factors stay on the device until the step ends; all else is on the CPU."""

    def __init__(self) -> None:
        self.batches: list[MicroBatch] = []
        self.results: list[ForwardResult] = []
        self.coarse: list[Tensor] = []  # [] each, whether factors on this rank were computed in fp32

    def add(self, micro: MicroBatch, result: ForwardResult) -> None:
        """Keep a micro-batch and the result of its forward."""
        self.batches.append(micro)
        self.results.append(result)

    def fields(self) -> dict[str, Tensor]:
        """[n] each: loss, tokens, factor, coarse, and the per-sample fields; one copy from the device."""
        each = [torch.stack([_wide(r.loss), _wide(r.tokens), _wide(r.factors)]) for r in self.results]
        whole = torch.cat(each, dim=1)
        flag = _wide(torch.stack(self.coarse).any()) if self.coarse else whole.new_zeros(())
        loss, tokens, factor, coarse = torch.cat([whole, flag.expand(1, whole.shape[1])]).cpu().double()
        fields = {**step_fields(self.batches, loss, tokens.round()), "factor": factor, "coarse": coarse}
        if self.batches[0].coefficient is not None:
            fields["coefficient"] = torch.cat([m.coefficient for m in self.batches if m.coefficient is not None])
        return fields


def _wide(values: Tensor) -> Tensor:
    """fp64, in which token counts are exact too; fp32 where the device has no fp64 (counts below 2²⁴)."""
    return values.detach().to(exact_dtype(values.device))
