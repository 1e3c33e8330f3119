"""Token losses under a second model, for rules and token rules that compare with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from samplewise.core.columns import ID
from samplewise.core.host import host
from samplewise.core.micro_batch import MicroBatch, read_micro_batch
from samplewise.losses.evaluation import evaluating
from samplewise.losses.head import find_head
from samplewise.losses.kernels import score
from samplewise.losses.token_losses import token_counts

REFERENCE_REMEDY = "Merge its adapters (merge_and_unload), or give its losses as a column of the data: reference_loss."


def reference_token_losses(
    model: nn.Module, batch: MicroBatch | Mapping[str, Any], *, chunk_bytes: int | None = None
) -> Tensor:
    """[B, T] −log p of every label under a second model, nats, aligned with labels, 0 where nothing is predicted.

    model: any that `find_head` knows, on the batch's device; it is called in eval mode without gradient and keeps no
        logits. In a DDP or FSDP run it stands outside the wrapper, whole on each rank.
    batch: a micro-batch, or a collated batch with labels [B, T]; its inputs are the second model's too. Its segments
        say what is predicted, tokens of weight 0 are not.
    Errors: SamplewiseError for heads without a logits-free path, and labels outside this model's vocabulary.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> sizes = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    >>> ids = torch.tensor([[1, 2, 3]])
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes))
    >>> reference_token_losses(model, {"input_ids": ids, "labels": ids}).shape
    torch.Size([1, 3])
    """
    micro = read_micro_batch({ID: torch.zeros(0, dtype=torch.int64), **batch}) if isinstance(batch, Mapping) else batch
    head, labels = find_head(model, REFERENCE_REMEDY), micro.targets
    segments, token_weights = micro.segments, micro.token_weights
    weight = head.weight  # before the body: a head in pieces is refused
    if not host(token_counts(labels, token_weights, segments)).any():
        return torch.zeros(labels.shape, device=micro.device)
    with evaluating(model):
        hidden = head.body(**micro.inputs).last_hidden_state
        scores = score(hidden, weight, labels, bias=head.bias, softcap=head.softcap, scale=head.scale, shard=head.shard,
                       segments=segments, token_weights=token_weights, chunk_bytes=chunk_bytes,
                       token_losses=True)  # fmt: skip
    assert scores.token_loss is not None
    return scores.token_loss
