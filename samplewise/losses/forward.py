"""A micro-batch through the model: sample losses, and Σ u_i L_i with its gradient; without logits or from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from samplewise.core.columns import ID, OURS, SEGMENTS, TOKEN_REFERENCE, TOKEN_WEIGHTS, Batch
from samplewise.core.errors import SamplewiseError
from samplewise.losses.body import unwrapped
from samplewise.losses.head import Request
from samplewise.losses.kernels import Backend, Factor, Select, Tally
from samplewise.losses.kernels.tally import tallied
from samplewise.losses.kernels.targets import find_targets
from samplewise.losses.own_terms import coefficient, has_router_term, text_config
from samplewise.losses.token_losses import sample_losses, select_tokens, token_counts, token_losses


class Outcome(NamedTuple):
    """value [] Σ u_i L_i; loss [n] nats/token, detached; tokens, factors [n]; aux [] or None: the model's own terms.

    router: [] its load-balancing loss before its coefficient, detached, where the model has one.
    """

    value: Tensor
    loss: Tensor
    tokens: Tensor
    factors: Tensor
    aux: Tensor | None
    router: Tensor | None = None


class Forward(Protocol):
    """How losses are had; both ways give the same numbers, and call the wrapped model, so that DDP and FSDP see it.

    tally: is filled with the tokens' entropy and correctness where it is set.
    """

    tally: Tally | None

    def losses(self, model: nn.Module, batch: Batch, differentiable: bool = False) -> tuple[Tensor, Tensor]:
        """[n] losses and [n] predicted tokens."""
        ...

    def token_losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """[B, T] nats, aligned with labels, 0 where nothing is predicted; without gradient."""
        ...

    def objective(
        self, model: nn.Module, batch: Batch, factors: Tensor | Factor, tally: bool = True, select: Select | None = None
    ) -> Outcome:
        """Σ u_i L_i for known factors [n] or a function of complete samples.

        tally: False where a pass came before. select: which tokens count, beside the reference losses of the batch.
        """
        ...


def model_inputs(batch: Batch) -> dict[str, Tensor]:
    """What the model takes of a micro-batch: neither labels nor this library's own keys."""
    return {key: value for key, value in batch.items() if key not in OURS and key != "labels"}


class WithoutLogits:
    """Through the request that `head.attach_objective` answers inside the model's forward."""

    def __init__(self, backend: Backend = "chunked", chunk_bytes: int | None = None) -> None:
        self.backend: Backend = backend
        self.chunk_bytes = chunk_bytes
        self.tally: Tally | None = None

    def losses(self, model: nn.Module, batch: Batch, differentiable: bool = False) -> tuple[Tensor, Tensor]:
        """Scored without gradient unless `differentiable`: neither logits nor activations are kept."""
        if not _predicts(batch):
            return _nothing(model, batch)
        request = self._request(batch, differentiable=differentiable)
        result = model(**model_inputs(batch), samplewise=request)
        return result.loss, result.tokens

    def token_losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """As the kernel has them: nothing more than the sample losses cost."""
        if not _predicts(batch):
            _nothing(model, batch)
            return torch.zeros(batch["labels"].shape, device=batch["labels"].device)
        result = model(**model_inputs(batch), samplewise=replace(self._request(batch), token_losses=True))
        return result.token_loss

    def objective(
        self, model: nn.Module, batch: Batch, factors: Tensor | Factor, tally: bool = True, select: Select | None = None
    ) -> Outcome:
        """Gradients of hidden states and head are formed in this forward (`samplewise.losses.kernels`)."""
        if not _predicts(batch):
            loss, tokens = _nothing(model, batch)
            return Outcome(loss.sum(), loss.detach(), tokens, torch.zeros_like(loss.detach()), None)
        request = self._request(batch, factors, tally=tally)
        if select is not None:
            request = replace(request, select=select, reference=batch.get(TOKEN_REFERENCE))
        result = model(**model_inputs(batch), samplewise=request)
        return Outcome(
            result.value, result.loss.detach(), result.tokens, result.factors, result.aux, _detached(result.router)
        )

    def _request(
        self, batch: Batch, factors: Tensor | Factor | None = None, differentiable: bool = False, tally: bool = True
    ) -> Request:
        return Request(
            batch["labels"], factors, segments=batch.get(SEGMENTS), token_weights=batch.get(TOKEN_WEIGHTS),
            backend=self.backend, chunk_bytes=self.chunk_bytes, differentiable=differentiable,
            tally=self.tally if tally else None,
        )  # fmt: skip


class FromLogits:
    """From the model's logits, for architectures whose head is more than a matrix product."""

    tally: Tally | None = None

    def losses(self, model: nn.Module, batch: Batch, differentiable: bool = False) -> tuple[Tensor, Tensor]:
        """Differentiable wherever autograd is on; the argument is here for the other way's sake."""
        return _from_logits(_outputs(model, batch), batch, self.tally)

    def token_losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """From the logits."""
        return nn.functional.pad(token_losses(_logits(_outputs(model, batch)), batch["labels"]), (1, 0))

    def objective(
        self, model: nn.Module, batch: Batch, factors: Tensor | Factor, tally: bool = True, select: Select | None = None
    ) -> Outcome:
        """One forward; its logits live until the backward."""
        outputs = _outputs(model, batch)
        if select is not None:
            batch = _with_selection(_logits(outputs), batch, select)
        loss, tokens = _from_logits(outputs, batch, self.tally if tally else None)
        used = torch.zeros_like(loss.detach())
        index = (tokens > 0).nonzero().squeeze(1)
        known = factors(loss.detach()[index], tokens[index], index) if callable(factors) else factors.to(used)[index]
        used[index] = known.to(used)
        value = torch.where(used == 0, 0.0, used * loss).sum()
        router = getattr(outputs, "aux_loss", None) if has_router_term(model) else None
        aux = None if router is None else router * coefficient(unwrapped(_module(model)))
        return Outcome(value, loss.detach(), tokens, used, aux, _detached(router))


def has_dropout(model: nn.Module) -> bool:
    """Whether the config asks for dropout anywhere."""
    config = text_config(model)
    values = {} if config is None else vars(config)
    return any(("dropout" in k or "pdrop" in k) and isinstance(v, float) and v > 0 for k, v in values.items())


def _module(model: nn.Module) -> nn.Module:
    return getattr(model, "module", model)


def _detached(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.detach()


def _outputs(model: nn.Module, batch: Batch) -> Any:
    """Without a cache, in whose presence transformers does not look for the segments of a packed row."""
    config = text_config(model)
    caches = {"use_cache": False} if getattr(config, "use_cache", False) else {}
    return model(**{**model_inputs(batch), **caches})


def _logits(outputs: Any) -> Tensor:
    logits = outputs.get("logits") if isinstance(outputs, dict) else getattr(outputs, "logits", None)
    if logits is None:
        raise SamplewiseError(
            "model", expected="outputs with logits", got=type(outputs).__name__, remedy="Return {'logits': …}."
        )
    return logits


def _from_logits(outputs: Any, batch: Batch, tally: Tally | None) -> tuple[Tensor, Tensor]:
    logits, labels, owner = _logits(outputs), batch["labels"], batch.get(SEGMENTS)
    if tally is not None:
        with torch.no_grad():
            labels_at = find_targets(labels, owner, False, logits.shape[-1], batch.get(TOKEN_WEIGHTS))
            own = logits.flatten(0, 1)[labels_at.position].float()
            tally.add(tallied(own, own.softmax(-1), labels_at.label))
    return sample_losses(logits, labels, segments=owner, token_weights=batch.get(TOKEN_WEIGHTS))


def _with_selection(logits: Tensor, batch: Batch, select: Select) -> Batch:
    losses = nn.functional.pad(token_losses(logits.detach(), batch["labels"]), (1, 0))
    given, owner = batch.get(TOKEN_WEIGHTS), batch.get(SEGMENTS)
    chosen = select_tokens(
        select, losses, batch["labels"], batch.get(TOKEN_REFERENCE), segments=owner, token_weights=given
    )
    return {**batch, TOKEN_WEIGHTS: chosen}


def _predicts(batch: Batch) -> bool:
    return bool((token_counts(batch["labels"], batch.get(TOKEN_WEIGHTS), batch.get(SEGMENTS)) > 0).any())


def _nothing(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Zeros that hang on the graph: every rank makes as many calls, and every parameter gets a gradient."""
    zero = model(**model_inputs(batch), logits_to_keep=1).logits.float().sum() * 0
    count = len(batch[ID])
    return zero.expand(count), torch.zeros(count, dtype=torch.int64, device=zero.device)
