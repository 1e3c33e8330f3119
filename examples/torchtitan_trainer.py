"""torchtitan's Trainer (0.3.0), weighted: a subclass of one method, since all of a step must be known to weigh it.

Not run: `train()` itself, and what `Trainer.__init__` builds (it was imported on torch 2.13, CPU, with triton). Run was
`forward_backward_step`, on a small model without the rest of the trainer: the gradient was that of autograd.
Written for one process: torchtitan sums gradients over ranks, and this library's objectives expect their mean.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchtitan.components.loss import IGNORE_INDEX  # pyright: ignore[reportMissingImports]
from torchtitan.trainer import Trainer  # pyright: ignore[reportMissingImports]

from samplewise.core.errors import SamplewiseError
from samplewise.core.micro_batch import MicroBatch
from samplewise.engine.modes import RetryInTwoPasses
from samplewise.engine.options import WeightingOptions
from samplewise.engine.step import Step

RULE = "ir_dro(r=3.0)"


def sample_losses(model: nn.Module, micro: MicroBatch) -> tuple[Tensor, Tensor]:
    """[n] losses in nats/token and [n] predicted tokens; torchtitan's labels are shifted already."""
    targets = micro.inputs["targets"]
    more = {"positions": micro.inputs["positions"]} if "positions" in micro.inputs else {}
    logits = model(micro.inputs["tokens"], **more).flatten(0, 1).float()
    tokens = nn.functional.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE_INDEX, reduction="none")
    counts = (targets != IGNORE_INDEX).sum(1)
    return tokens.view(targets.shape).sum(1) / counts.clamp(min=1), counts


class WeightedTrainer(Trainer):
    """Keeps the micro-batches of a step until the last has come, then plans and runs them all; clipping comes after."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if self.parallel_dims.world_size > 1:
            raise SamplewiseError(
                "parallel_dims", expected="one process", got=self.parallel_dims.world_size,
                remedy="Use samplewise.trainers.WeightedStep on FSDP2, or WeightedTrainer.",
            )  # fmt: skip
        self.begin(RULE)

    def begin(self, rule: str) -> None:
        """Attach the engine to the model. One process has one part of it."""
        self.weighting = Step(WeightingOptions(rule=rule, losses=sample_losses), self.device)
        self.weighting.attach(self.model_parts[0])
        self.weighting.start()
        self.held, self.rows = [], 0

    def forward_backward_step(self, *, input_dict: Any, labels: Any, global_valid_tokens: Tensor) -> Tensor:
        """The step's unweighted mean loss in its last micro-batch, 0 before; the gradient is complete then."""
        tokens, targets, more = self.post_dataloading_process(input_dict, labels)
        ids = torch.arange(self.rows, self.rows + len(targets))
        positions = {"positions": more["positions"]} if isinstance(more.get("positions"), Tensor) else {}
        self.held.append({"tokens": tokens, "targets": targets, "sample_id": ids, **positions})
        self.rows += len(targets)
        if len(self.held) < self.gradient_accumulation_steps:
            return torch.zeros((), device=self.device)
        given, self.held, model = self.held, [], self.model_parts[0]
        try:
            self.run(self.weighting.prepare(model, given))
        except RetryInTwoPasses as reason:
            model.zero_grad()
            self.run(self.weighting.retry(model, reason))
        return torch.tensor(self.weighting.finish(model.parameters).loss, device=self.device)

    def run(self, micro_batches: list[MicroBatch]) -> None:
        """Forward and backward of each."""
        for micro in micro_batches:
            with self.train_context():
                self.weighting.loss(self.model_parts[0], micro).backward()
