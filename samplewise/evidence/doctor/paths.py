"""Which way each of a model's parts takes here: body, head, kernel, chunks, sharding, compilation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from samplewise.core.errors import SamplewiseError
from samplewise.evidence.doctor.checks import Check
from samplewise.losses.body import decoder_of, unwrapped
from samplewise.losses.compiled import uncompiled
from samplewise.losses.head import Head, find_head
from samplewise.losses.kernels.backends import obstacle
from samplewise.losses.kernels.inputs import Inputs
from samplewise.losses.kernels.plan import rows_per_chunk
from samplewise.losses.model_facts import has_dropout
from samplewise.losses.own_terms import has_own_term
from samplewise.losses.sharded import in_pieces


def check_paths(model: nn.Module) -> Iterator[Check]:
    """A line for the body, and one for the head, its kernel and the rest; a head that is refused fails."""
    yield _body(model)
    try:
        head = find_head(uncompiled(model))
    except SamplewiseError as error:
        yield Check("head", "fail", str(error))
        return
    yield _head(model, head)
    yield _kernel(head)


def kernel_of(head: Head) -> tuple[str, str | None]:
    """The backend that "auto" means for this head on its device, and why it is not Triton."""
    weight = head.weight
    if weight.device.type != "cuda":
        return "chunked", f"Triton's is for CUDA devices, this is {weight.device.type}"
    nothing = weight.new_zeros(1, 2, weight.shape[1])
    why = obstacle(Inputs(nothing, weight, torch.zeros(1, 2, dtype=torch.int64, device=weight.device)))
    return ("triton", None) if why is None else ("chunked", why)


def _body(model: nn.Module) -> Check:
    inner: Any = unwrapped(uncompiled(model))
    body = decoder_of(inner)
    parts = [uncompiled(each) is not each or each._compiled_call_impl is not None for each in (model, body)]
    facts = {
        "class": type(inner).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "attention": getattr(inner.config, "_attn_implementation", None),
        "compiled": any(parts),
        "sharded": any(in_pieces(parameter) for parameter in model.parameters()),
        "PEFT": hasattr(model, "peft_config"),
        "dropout": has_dropout(uncompiled(model)),
        "loss term of its own": has_own_term(uncompiled(model)),
    }
    said = [name for name in ("compiled", "sharded", "PEFT", "dropout", "loss term of its own") if facts[name]]
    text = f"{facts['class']}, {facts['parameters'] / 1e6:,.1f} M parameters, attention {facts['attention']}"
    return Check("body", "info", ", ".join([text, *said]), facts)


def _head(model: nn.Module, head: Head) -> Check:
    inner: Any = unwrapped(uncompiled(model))
    embeddings = inner.get_input_embeddings()
    tied = getattr(embeddings, "weight", None) is head.weight
    more = {"tied to the input": tied, "bias": head.bias is not None, "a unit of FSDP2": head.unit is not None}
    facts = {"shape": list(head.weight.shape), "softcap": head.softcap, "scale": head.scale, **more}
    said = [name for name, there in more.items() if there]
    said += [f"softcap {head.softcap}"] if head.softcap is not None else []
    said += [f"scale {head.scale:g}"] if head.scale != 1 else []
    text = f"found by get_output_embeddings(): {type(head.linear).__name__} {list(head.weight.shape)}"
    return Check("head", "info", "; ".join([f"{text}, losses without logits", *said]), facts)


def _kernel(head: Head) -> Check:
    backend, why = kernel_of(head)
    weight = head.weight
    rows = rows_per_chunk(None, len(weight), weight.dtype, weight.device)
    text = f"{backend}, {rows} rows of logits in a chunk{'' if why is None else f' ({why})'}"
    return Check("kernel", "info", text, {"backend": backend, "why_not_triton": why, "rows": rows})
