"""A micro-batch as the engine sees it: what the model takes, and what this library knows of its samples.

Shapes: B rows, T positions, n samples of a micro-batch. A sample is a row of a padded micro-batch, a segment of a
packed one, or a turn within either; only where samples are not rows is there a map of segments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from samplewise.core.columns import COLUMNS, ID, SEGMENTS, TOKEN_WEIGHTS
from samplewise.core.errors import SamplewiseError
from samplewise.core.host import fetched, is_on_host


@dataclass(frozen=True)
class MicroBatch:
    """One forward and backward. Each field is written in one place, named here; None until then, or where unused.

    The model's inputs live where it does. Fields live on the host, where rules, plans and rows read them without a
    wait; the reference model's token losses stay on the device, as does what a loss of one's own reads by position.

    inputs: what the model takes, labels left out. The collator.
    labels: [B, T] tokens, not shifted, −100 where nothing is predicted; None where a loss of one's own reads other
        labels among the inputs. The collator.
    id: [n] int64. weight: [n] fp64, the data's own. reference: [n] fp64, loss under a reference model, nats/token.
    group: [n] int64. stored_loss: [n] fp64, an earlier loss, nats/token, NaN where there is none. The collator.
    counts: [n] int64, of a loss of one's own: predicted tokens, where they are known before the forward. The host.
    padding: of a loss of one's own: its inputs by position [n, T, …], whose T may differ between micro-batches, and
        what fills them up on the right. A position where all of them hold that is padding. The host.
    segments: [B, T] int64, the sample 0..n-1 of each position, −1 for none; None where rows are the samples.
    token_weights: [B, T] fp32, what the prediction of each label counts within its sample. The collator; then
        `engine.token_selection`, for tokens that a token rule leaves out.
    attended: [B, T] bool, which positions hold tokens, from the attention mask of a padded micro-batch. `on_host`.
    position: [B, T], the model's position_ids of a packed micro-batch. `on_host`.
    token_reference: [B, T] nats, token losses of the reference model, aligned with labels. `engine.reference`.
    tokens_before: [n] int64, predicted tokens before a token rule leaves any out. `engine.reference`.
    base_weight: [n] fp64, what a sample counts before a rule weighs it. `engine.base_weights`.
    coefficient: [n] fp64, what its loss counts in the step; they sum to 1 over it. The mode, from its plan.
    last: whether it is the step's last on this rank. The mode.
    """

    inputs: dict[str, Any]
    labels: Tensor | None
    id: Tensor
    weight: Tensor | None = None
    reference: Tensor | None = None
    group: Tensor | None = None
    stored_loss: Tensor | None = None
    counts: Tensor | None = None
    padding: Mapping[str, float] | None = None
    segments: Tensor | None = None
    token_weights: Tensor | None = None
    attended: Tensor | None = None
    position: Tensor | None = None
    token_reference: Tensor | None = None
    tokens_before: Tensor | None = None
    base_weight: Tensor | None = None
    coefficient: Tensor | None = None
    last: bool = False

    def __len__(self) -> int:
        """n, the number of samples in this micro-batch."""
        return len(self.id)

    @property
    def targets(self) -> Tensor:
        """[B, T] the labels. Errors: SamplewiseError without token labels."""
        if self.labels is None:
            raise SamplewiseError(
                "labels", expected="token labels [B, T], integers in the shape of input_ids", got="none",
                remedy="Only a loss of your own (losses=…) can do without them.",
            )  # fmt: skip
        return self.labels

    def sample_fields(self) -> dict[str, Tensor]:
        """The per-sample fields that are there, by name: [n] each."""
        return self._given(SAMPLE_FIELDS)

    def position_fields(self) -> dict[str, Tensor]:
        """The fields by position that are there, by name: [B, T] each."""
        return self._given(POSITION_FIELDS)

    def rule_fields(self) -> dict[str, Tensor]:
        """The optional fields of `Samples` that are there, by name: [n] each."""
        return self._given(RULE_FIELDS)

    def _given(self, names: tuple[str, ...]) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def device(self) -> torch.device:
        """Where the model's inputs are."""
        return next((v.device for v in self.inputs.values() if isinstance(v, Tensor)), torch.device("cpu"))

    def inputs_to(self, device: torch.device) -> MicroBatch:
        """The same micro-batch with the model's inputs on `device`."""
        inputs = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in self.inputs.items()}
        return replace(self, inputs=inputs)

    def to(self, device: torch.device) -> MicroBatch:
        """The same micro-batch with inputs and fields by position on `device`, for a loss of one's own."""
        moved: dict[str, Any] = {name: value.to(device) for name, value in self.position_fields().items()}
        return replace(self.inputs_to(device), **moved)


RULE_FIELDS = ("weight", "reference", "group", "stored_loss")
SAMPLE_FIELDS = ("id", *RULE_FIELDS, "counts", "tokens_before", "base_weight", "coefficient")
POSITION_FIELDS = ("labels", "segments", "token_weights", "attended", "token_reference")

COLUMN_OF = {
    "id": ID, "weight": "sample_weight", "reference": "reference_loss", "group": "group", "stored_loss": "stored_loss",
}  # fmt: skip
"""The per-sample fields that come with the data, by the column that they come from."""


def read_micro_batch(
    batch: Mapping[str, Any] | MicroBatch, *, attended: Tensor | None = None, position: Tensor | None = None
) -> MicroBatch:  # fmt: skip
    """The micro-batch that a collator has made: model inputs, `labels`, and this library's columns.

    batch: sample_id [n], and where the data has them sample_weight, reference_loss, group, stored_loss [n],
        token_weights [B, T], samplewise_segments [B, T]; every other key goes to the model.
    attended, position: its attention_mask and position_ids, where they are on the host already.
    Errors: SamplewiseError without sample_id.
    """
    if isinstance(batch, MicroBatch):
        return batch
    if ID not in batch:
        raise SamplewiseError(
            "micro_batches", expected=f"micro-batches with '{ID}'", got=f"the keys {sorted(map(str, batch))}",
            remedy="Number the rows, and collate with samplewise.trainers.collate.FieldsCollator(your_collator).",
        )  # fmt: skip
    own: dict[str, Any] = {name: batch[column].cpu() for name, column in COLUMN_OF.items() if column in batch}
    labels = batch.get("labels") if _are_tokens(batch) else None
    micro = MicroBatch(
        inputs={
            key: value
            for key, value in batch.items()
            if key not in WEIGHTING_KEYS and (labels is None or key != "labels")
        },
        labels=labels, segments=batch.get(SEGMENTS), token_weights=batch.get(TOKEN_WEIGHTS), position=position, **own,
    )  # fmt: skip
    return micro if attended is None or _mask(micro) is None else replace(micro, attended=attended != 0)


WEIGHTING_KEYS = frozenset({*COLUMNS, SEGMENTS, TOKEN_WEIGHTS})
"""Keys of a collated batch that the model does not get."""


def _are_tokens(batch: Mapping[str, Any]) -> bool:
    labels, ids = batch.get("labels"), batch.get("input_ids")
    if not isinstance(labels, Tensor) or labels.dim() != 2 or labels.is_floating_point():
        return False
    return not isinstance(ids, Tensor) or ids.shape == labels.shape


def on_host(batches: Sequence[MicroBatch]) -> list[MicroBatch]:
    """The micro-batches of a step with their fields by position on the host, `attended` and `position` among them.

    Cost: one copy from the device for all of them, of what is not on the host already.
    """
    return [_with(micro, **known) for micro, known in zip(batches, fetched(map(_away, batches)), strict=True)]


def _with(micro: MicroBatch, attended: Tensor | None = None, **fields: Any) -> MicroBatch:
    return replace(micro, attended=micro.attended if attended is None else attended != 0, **fields)


def _away(micro: MicroBatch) -> dict[str, Tensor]:
    """The fields by position that are on a device, and those that are still to be had of the model's inputs."""
    names = ("labels", "segments", "token_weights")
    found = {name: getattr(micro, name) for name in names}
    found = {name: value for name, value in found.items() if value is not None and not is_on_host(value)}
    mask, position = _mask(micro), micro.inputs.get("position_ids")
    if mask is not None and micro.attended is None:
        found["attended"] = mask
    packed = micro.segments is not None and "attention_mask" not in micro.inputs
    if packed and isinstance(position, Tensor) and micro.position is None:
        found["position"] = position
    return found


def _mask(micro: MicroBatch) -> Tensor | None:
    mask = micro.inputs.get("attention_mask")
    whole = micro.labels is not None and isinstance(mask, Tensor) and mask.shape == micro.labels.shape
    return mask if whole else None


def attended_of(micro: MicroBatch) -> Tensor | None:
    """[B, T] bool on the host: which positions hold tokens; None for a micro-batch without a mask of that shape."""
    if micro.attended is not None or _mask(micro) is None:
        return micro.attended
    return on_host([micro])[0].attended


def check_labels(batches: Iterable[MicroBatch]) -> None:
    """Errors: SamplewiseError where a micro-batch has no token labels."""
    for micro in batches:
        if micro.labels is None:
            raise SamplewiseError(
                "micro_batches", expected="micro-batches with 'labels' [B, T], in the shape of input_ids",
                got=f"the keys {sorted(map(str, micro.inputs))}",
                remedy="Give the labels as the model takes them, or a loss of your own: losses=….",
            )  # fmt: skip
