"""What a trainer shows of its tokens beside the loss: how unsure the model is, and how often it is right."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samplewise.core.host import exact_dtype


@dataclass
class Tally:
    """Sums over the predicted tokens of one or more forwards, filled by the kernel.

    entropy: nats, Σ over tokens of −Σ_v p_v log p_v. correct: tokens whose label has the largest logit. tokens: how
    many. sums: [2] of both, on the device. Costs three passes over a chunk's logits while they are in the cache.
    """

    tokens: int = 0
    sums: Tensor | None = None

    def add(self, found: Tensor) -> None:
        """Take in [2, P]: the entropy of each token, and whether it is right."""
        sums = found.to(exact_dtype(found.device)).sum(1)
        self.sums = sums if self.sums is None else self.sums + sums
        self.tokens += found.shape[1]

    @property
    def entropy(self) -> float:
        """Nats; waits for the device."""
        return 0.0 if self.sums is None else float(self.sums[0])

    @property
    def correct(self) -> int:
        """How many tokens; waits for the device."""
        return 0 if self.sums is None else round(float(self.sums[1]))


def tallied(logits: Tensor, p: Tensor, label: Tensor) -> Tensor:
    """[2, c] entropy and correctness of tokens. logits, p: [c, V], p the softmax of logits.

    The entropy is logsumexp − Σ p·logit, and logsumexp is had from the largest probability: no third exponential.
    """
    largest, index = logits.max(-1)
    row = torch.arange(len(label), device=logits.device)
    normalizer = largest - p[row, index].log()
    entropy = (normalizer - torch.linalg.vecdot(p, logits)).clamp(min=0)
    return torch.stack([entropy, (index == label).to(entropy)])
