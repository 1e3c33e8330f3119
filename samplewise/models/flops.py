"""What a model's forward costs, from its matrices: so that a small scorer is counted as small, a large one as large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from samplewise.core.errors import SamplewiseError


@dataclass(frozen=True)
class ForwardCost:
    """FLOPs of a forward; a multiplication and an addition are two. A backward costs twice as much.

    position: 2 × the parameters of all matrices but embeddings and head, for each position of a row.
    predicted: 2 × the parameters of the head, for each token that is predicted.
    pair: of attention, for each position and each position of its row, those that a causal mask hides included: dense
        kernels compute them.
    """

    position: float
    predicted: float
    pair: float

    def row(self, positions: int, predicted: int) -> float:
        """Of a row of so many positions and predicted tokens.

        >>> ForwardCost(position=2.0, predicted=10.0, pair=1.0).row(4, 3)
        54.0
        """
        return positions * (self.position + self.pair * positions) + predicted * self.predicted

    def per_token(self, rows: Sequence[tuple[int, int]]) -> float:
        """The mean over the predicted tokens of rows (positions, predicted tokens)."""
        return sum(self.row(*row) for row in rows) / max(1, sum(predicted for _, predicted in rows))


def forward_cost(model: nn.Module, name: str = "model") -> ForwardCost:
    """The cost of a causal language model. Of experts, those that a token is sent to are counted.

    Errors: SamplewiseError where the model does not say how many experts a token is sent to, and where it has no head.
    """
    config: Any = model.config.get_text_config()  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    head = getattr(model.get_output_embeddings(), "weight", None)  # pyright: ignore[reportCallIssue]
    if head is None:
        raise _unknown(name, "no output embeddings")
    own = [(key, matrix) for key, matrix in _matrices(model) if matrix is not head]
    routed = sum(matrix.numel() for key, matrix in own if ".experts." in key)
    dense = sum(matrix.numel() for key, matrix in own if ".experts." not in key)
    share = _share_of_experts(config, name) if routed else 0.0
    heads = getattr(config, "num_attention_heads", 0) or 0
    width = getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else 0)
    pair = 4.0 * config.num_hidden_layers * heads * width
    return ForwardCost(2.0 * (dense + share * routed), 2.0 * head.numel(), pair)


def _matrices(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters that multiply, each once: vectors, and the tables of embeddings, do not."""
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for key, parameter in model.named_parameters():
        if parameter.dim() >= 2 and id(parameter) not in tables:
            yield key, parameter


def _share_of_experts(config: Any, name: str) -> float:
    every = [getattr(config, key, None) for key in ("num_local_experts", "num_experts", "n_routed_experts")]
    chosen = getattr(config, "num_experts_per_tok", None)
    total = next((each for each in every if each), None)
    if not chosen or not total:
        raise _unknown(name, "experts, and a config without their number or how many a token is sent to")
    return min(1.0, chosen / total)


def _unknown(name: str, got: str) -> SamplewiseError:
    return SamplewiseError(
        name, expected="a model whose parameters a token's forward can be counted by", got=got,
        remedy="Use budget: {compute: …}, which counts tokens, or another model.",
    )  # fmt: skip
