"""Sample losses by autograd: from a model's logits, or by a function of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from samplewise.core.errors import SamplewiseError
from samplewise.core.host import host, to_device
from samplewise.core.micro_batch import MicroBatch
from samplewise.core.token_rule import TokenRule
from samplewise.losses.body import unwrapped
from samplewise.losses.forward import ForwardResult
from samplewise.losses.kernels import Factor, Select, Tally
from samplewise.losses.kernels.tally import tallied
from samplewise.losses.kernels.targets import find_targets
from samplewise.losses.own_terms import coefficient, has_router_term, text_config
from samplewise.losses.token_losses import sample_losses, select_tokens, token_counts, token_losses, token_mass


class FromLosses:
    """A function (model, micro-batch) -> ([n] losses, [n] counts), differentiable by autograd."""

    tally: Tally | None = None

    def __init__(self, function: Callable[[nn.Module, MicroBatch], tuple[Tensor, Tensor]]) -> None:
        self.function = function

    def losses(self, model: nn.Module, micro: MicroBatch, differentiable: bool = False) -> tuple[Tensor, Tensor]:
        """[n] losses and [n] counts from the function; differentiable wherever autograd is on."""
        loss, tokens = self.function(model, micro)
        for name, value in (("losses", loss), ("counts", tokens)):
            if not isinstance(value, Tensor) or value.shape != (len(micro),):
                raise SamplewiseError(
                    "losses", expected=f"{name} [n] of the micro-batch's {len(micro)} samples",
                    got=f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__,
                    remedy="Return one loss and one count for every id of the micro-batch, in the same order.",
                )  # fmt: skip
        return loss, tokens

    def token_losses(self, model: nn.Module, micro: MicroBatch) -> Tensor:
        """Errors: SamplewiseError, since a loss of one's own has no token losses."""
        raise SamplewiseError(
            "token_rule",
            expected="a causal language model's own loss",
            got="losses=…",
            remedy="Leave out the token rule or losses=….",
        )

    def objective(
        self, model: nn.Module, micro: MicroBatch, factors: Tensor | Factor, tally: bool = True,
        select: Select | None = None,
    ) -> ForwardResult:  # fmt: skip
        """Σ u_i L_i by autograd. A sample of factor 0 is absent: its loss may be anything."""
        loss, tokens = self.losses(model, micro, differentiable=True)
        return _weighed(loss, tokens, factors, None)


class FromLogits:
    """From the model's logits, for architectures whose head is more than a matrix product."""

    tally: Tally | None = None

    def losses(self, model: nn.Module, micro: MicroBatch, differentiable: bool = False) -> tuple[Tensor, Tensor]:
        """[n] losses and [n] counts from the logits; differentiable wherever autograd is on."""
        return self._from(_outputs(model, micro), micro, self.tally)

    def token_losses(self, model: nn.Module, micro: MicroBatch) -> Tensor:
        """[B, T] nats from the logits, aligned with labels, 0 where nothing is predicted."""
        return nn.functional.pad(token_losses(logits_of(_outputs(model, micro)), micro.targets), (1, 0))

    def objective(
        self, model: nn.Module, micro: MicroBatch, factors: Tensor | Factor, tally: bool = True,
        select: Select | None = None,
    ) -> ForwardResult:  # fmt: skip
        """Σ u_i L_i by autograd through the logits; [] scalar."""
        outputs = _outputs(model, micro)
        chosen = micro if select is None else _with_selection(logits_of(outputs), micro, select)
        reweighs = isinstance(select, TokenRule) and select.reweighs
        loss, tokens = self._from(outputs, micro if reweighs else chosen, self.tally if tally else None)
        trained = _reweighed(logits_of(outputs), micro, chosen) if reweighs else loss
        router = getattr(outputs, "aux_loss", None) if has_router_term(model) and _predicts(micro) else None
        aux = None if router is None else router * coefficient(unwrapped(getattr(model, "module", model)))
        known = _weighed(loss, tokens, factors, aux, trained)
        return known._replace(router=None if router is None else router.detach())

    def _from(self, outputs: Any, micro: MicroBatch, tally: Tally | None) -> tuple[Tensor, Tensor]:
        logits, labels = logits_of(outputs), micro.targets
        if tally is not None:
            with torch.no_grad():
                targets = find_targets(
                    labels, micro.segments, False, logits.shape[-1], micro.token_weights, device=logits.device
                )
                own = logits.flatten(0, 1)[targets.position].float()
                tally.add(tallied(own, own.softmax(-1), targets.label))
        return sample_losses(logits, labels, segments=micro.segments, token_weights=micro.token_weights)


def _reweighed(logits: Tensor, micro: MicroBatch, chosen: MicroBatch) -> Tensor:
    """[n] Σ mℓ / n of each sample: token weights of `chosen`, divided by what divides without them."""
    labels, segments = micro.targets, micro.segments
    loss, _ = sample_losses(logits, labels, segments=segments, token_weights=chosen.token_weights)
    new, old = (token_mass(labels, each.token_weights, segments).to(loss) for each in (chosen, micro))
    return loss * new / old.clamp(min=torch.finfo(old.dtype).tiny)


def _weighed(
    loss: Tensor, tokens: Tensor, factors: Tensor | Factor, aux: Tensor | None, trained: Tensor | None = None
) -> ForwardResult:
    """Σ u_i L_i. A row of factor 0 is left out of the sum: 0·inf would be NaN.

    trained: [n] the losses in the sum, where they are other than those that factors follow from.
    Factors are asked for samples without a token too, and not used: to leave those out would wait for the device.
    """
    if callable(factors):
        known = factors(loss.detach(), tokens, torch.arange(len(loss), device=loss.device))
    else:
        known = to_device(factors.to(loss.dtype), loss.device)
    used = torch.where(tokens > 0, known.to(loss.dtype), 0)
    value = torch.where(used == 0, 0.0, used * (loss if trained is None else trained)).sum()
    return ForwardResult(value, loss.detach(), tokens, used, aux)


def _predicts(micro: MicroBatch) -> bool:
    return bool(host(token_counts(micro.targets, micro.token_weights, micro.segments)).any())


def _outputs(model: nn.Module, micro: MicroBatch) -> Any:
    """Without a cache, in whose presence transformers does not look for the segments of a packed row."""
    caches = {"use_cache": False} if getattr(text_config(model), "use_cache", False) else {}
    return model(**{**micro.inputs, **caches})


def logits_of(outputs: Any) -> Tensor:
    """[B, T, V] of a model's outputs. Errors: SamplewiseError where there are none."""
    logits = outputs.get("logits") if isinstance(outputs, dict) else getattr(outputs, "logits", None)
    if logits is None:
        raise SamplewiseError(
            "model",
            expected="outputs with logits",
            got=type(outputs).__name__,
            remedy="Return an output with logits, such as {'logits': …}.",
        )
    return logits


def _with_selection(logits: Tensor, micro: MicroBatch, select: Select) -> MicroBatch:
    losses = nn.functional.pad(token_losses(logits.detach(), micro.targets), (1, 0))
    selected = select_tokens(
        select, losses, micro.targets, micro.token_reference, segments=micro.segments, token_weights=micro.token_weights
    )
    return replace(micro, token_weights=selected)
