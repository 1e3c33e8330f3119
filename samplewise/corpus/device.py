"""The model made ready: moved to the best device, its layers compiled where that was asked for, its memory measured."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import nn

from samplewise.core.device_memory import free_bytes, peak_bytes
from samplewise.core.errors import SamplewiseError
from samplewise.core.exhausted import lacks_memory
from samplewise.corpus.batching import Measured, measured_tokens
from samplewise.corpus.losses import token_losses
from samplewise.corpus.pieces import Piece
from samplewise.losses.body import decoder_of, unwrapped
from samplewise.losses.evaluation import evaluating

TOLERANCE = {torch.float16: 5e-2, torch.bfloat16: 5e-2}
"""Nats that a compiled model's loss of a row may be off; fp32: 1e-4."""


def on_best_device(model: nn.Module) -> nn.Module:
    """The model on this process's GPU, where there is one."""
    if not torch.cuda.is_available():
        return model
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)  # Triton launches kernels on the current one, whatever its tensors lie on
    return model.to(device)


def compile_layers(model: nn.Module) -> None:
    """Have the model's layers compiled, once for all sizes of batches, and see that losses stay what they were.

    Errors: SamplewiseError where the layers cannot be found or compiled, or compute something else.
    """
    layers, rows = repeated_layers(model), [random_piece(model, length) for length in (40, 33, 17)]
    with evaluating(model):
        before = token_losses(model, rows)()
        try:
            for layer in layers:
                layer.compile(dynamic=True)
            after = token_losses(model, rows)()
        except Exception as error:  # of dynamo, inductor, Triton, a C++ compiler
            if lacks_memory(error):
                raise
            got = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise _cannot_compile("layers that torch.compile takes, and a C++ compiler", got) from error
    off = np.abs(after - before).max()
    if not off <= TOLERANCE.get(next(model.parameters()).dtype, 1e-4):
        raise _cannot_compile("the losses of the model as it is", f"others, by {off:.2g} nats")


def repeated_layers(model: nn.Module) -> list[nn.Module]:
    """The layers that a model consists of, by the classes that transformers names.

    They share one compiled graph; and what is outside them stays as it is: a compiled causal mask would be written out,
    which the fast kernels of attention do not take (before torch 2.14).
    Errors: SamplewiseError for a model that names none.
    """
    inner = unwrapped(model)
    names = set(getattr(inner, "_no_split_modules", None) or ())
    found = [module for module in decoder_of(inner).modules() if type(module).__name__ in names]
    if not found:
        raise _cannot_compile("a model that names its layers (_no_split_modules)", type(inner).__name__)
    return found


def measured(model: nn.Module, longest: int) -> Measured:
    """How many ids a batch may have on the model's device, a CUDA one; tried on rows of `longest` random ids."""
    device, row = next(model.parameters()).device, random_piece(model, longest)

    def peak(rows: int) -> int:
        return peak_bytes(lambda: token_losses(model, [row] * rows)(), device)

    with evaluating(model):
        token_losses(model, [random_piece(model, 2)])()  # what is made once, and stays
        return measured_tokens(peak, free_bytes(device), longest)


def random_piece(model: nn.Module, length: int) -> Piece:
    """A piece of random ids."""
    vocabulary: int = model.get_input_embeddings().num_embeddings  # pyright: ignore[reportCallIssue]
    ids = np.random.default_rng(length).integers(0, vocabulary, length)
    return Piece(ids=ids, start=1, id=0, doc_id=0, source="", row=0, window=0, n_bytes=0, text="")


def _cannot_compile(expected: str, got: str) -> SamplewiseError:
    remedy = "Score without --compile, into a folder that was not begun with it."
    return SamplewiseError("--compile", expected=expected, got=got, remedy=remedy)
