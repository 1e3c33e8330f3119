"""How often a step waits for the device, beside what the model's own forwards wait.

On CUDA torch itself says so (`torch.cuda.set_sync_debug_mode`, which may overlook an operation). On a CPU tensors stand
for a device's (`stand_ins`), in a tiny model of our own: what the library reads does not follow from the model.
"""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from samplewise.evidence.doctor import stand_ins
from samplewise.evidence.doctor.checks import Check, judge
from samplewise.evidence.doctor.documents import micro_batches as made
from samplewise.evidence.doctor.documents import random_documents
from samplewise.losses.without_logits import WithoutLogits
from samplewise.trainers import WeightedStep

MICRO, SIZE, LONGEST = 4, 4, 40
BOUND = 4  # of a step: it waits twice; one wait a micro-batch more must not pass
SMALL_CHUNK = 24
RULES = {"one pass": ("ir_dro(r=1.0)", 1), "two passes": ("band(drop_top=0.25)", 2)}
"""Each with its forwards of a micro-batch."""
PARTS = [list(range(SIZE * k, SIZE * (k + 1))) for k in range(MICRO)]
SYNCHRONIZES = "called a synchronizing CUDA operation"

Counting = Callable[[], Any]


@contextmanager
def cuda_waits() -> Generator[Counter[str]]:
    """What torch warns of within, by the line of this package or of the model that asked."""
    found: Counter[str] = Counter()
    before = torch.cuda.get_sync_debug_mode()

    def noted(message: Any, *_: Any) -> None:
        if SYNCHRONIZES in str(message):
            stack = [each for each in traceback.extract_stack() if "/torch/" not in each.filename]
            asked = next((each for each in reversed(stack) if each.filename not in (__file__, warnings.__file__)), None)
            found["elsewhere" if asked is None else stand_ins.place(asked.filename, asked.lineno)] += 1

    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=f".*{SYNCHRONIZES}")
        warnings.showwarning = noted
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(before)


def count_step(
    model: nn.Module, rule: str, form: str, counting: Counting, chunk_rows: int | None = None
) -> Counter[str]:
    """The waits of the third step, when first looks are over."""
    step = WeightedStep(model, rule)
    forward = step.engine.attached.forward if step.engine.attached is not None else None
    if chunk_rows is not None and isinstance(forward, WithoutLogits):
        forward.chunk_bytes = chunk_rows * 4 * _vocabulary(model)
    counts: list[Counter[str]] = []
    try:
        for number in range(3):
            batches = _batches(model, form, number)
            with counting() as found:
                for micro in step.plan(batches):
                    step.backward(micro)
                step.finish()
            counts.append(Counter(found))
            model.zero_grad()
    finally:
        step.detach()
    return counts[-1]


def count_model(model: Any, form: str, counting: Counting) -> int:
    """What the forwards of its body wait for, over the micro-batches of a step."""
    counts: list[int] = []
    for number in range(2):
        with counting() as found, torch.no_grad():
            for batch in _batches(model, form, number):
                inputs = {k: v for k, v in batch.items() if k in ("input_ids", "attention_mask", "position_ids")}
                model.base_model(**inputs, use_cache=False)
        counts.append(sum(found.values()))
    return counts[-1]


def check_waits(model: nn.Module, counting: Counting, how: str) -> Iterable[Check]:
    """A check for each mode and form, with chunks of the default size and with small ones: none waits for a chunk."""
    for form in ("padded", "packed"):
        own = count_model(model, form, counting)
        for name, (rule, forwards) in RULES.items():
            for rows in (None, SMALL_CHUNK):
                found = count_step(model, rule, form, counting, rows)
                beside = max(0, sum(found.values()) - forwards * own)
                chunks = "" if rows is None else ", small chunks"
                text = f"{beside} in a step of {MICRO} micro-batches, allowed {BOUND}{how}"
                yield judge(f"waits, {name}, {form}{chunks}", beside, BOUND, text, lines=dict(found), model=own)


def _batches(model: Any, form: str, seed: int) -> list[dict[str, Tensor]]:
    device = next(model.parameters()).device
    documents = random_documents(_vocabulary(model), MICRO * SIZE, LONGEST, device, seed)
    batches = made(documents, form, PARTS)
    if stand_ins.stands_in(model):
        host = frozenset({"sample_id", "sample_weight"})
        return [stand_ins.batch_on_device(batch, host) for batch in batches]
    return batches


def _vocabulary(model: Any) -> int:
    return model.get_output_embeddings().weight.shape[0]
