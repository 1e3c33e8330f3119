"""What a trainer shows of its tokens beside the loss: how unsure the model is, and how often it is right."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Tally:
    """Sums over the predicted tokens of one or more forwards, filled by the kernel.

    entropy: nats, Σ over tokens of −Σ_v p_v log p_v. correct: tokens whose label has the largest logit. tokens: how
    many. Costs three passes over a chunk's logits while they are in the cache.
    """

    entropy: float = 0.0
    correct: int = 0
    tokens: int = 0

    def add(self, found: Tensor) -> None:
        """Take in [2, P]: the entropy of each token, and whether it is right."""
        entropy, correct = found.double().sum(1).tolist()
        self.entropy += entropy
        self.correct += round(correct)
        self.tokens += found.shape[1]


def tallied(logits: Tensor, p: Tensor, label: Tensor) -> Tensor:
    """[2, c] entropy and correctness of tokens. logits, p: [c, V], p the softmax of logits.

    The entropy is logsumexp − Σ p·logit, and logsumexp is had from the largest probability: no third exponential.
    """
    largest, index = logits.max(-1)
    row = torch.arange(len(label), device=logits.device)
    normalizer = largest - p[row, index].log()
    entropy = (normalizer - torch.linalg.vecdot(p, logits)).clamp(min=0)
    return torch.stack([entropy, (index == label).to(entropy)])
