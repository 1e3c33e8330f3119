"""Models under `torch.compile`: their body is compiled, what is done with the head is not.

The kernels read numbers from tensors and form gradients in their forward: traced, they would break the graph at every
chunk and be compiled again for every number of tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

logger = logging.getLogger("samplewise")

in_python: Callable[..., Any] = torch.compiler.disable
"""Runs a function as it is, with all that it calls."""
around_the_body: Callable[..., Any] = partial(torch.compiler.disable, recursive=False)
"""Runs a function as it is; modules that it calls are compiled where a caller asked for it."""


def uncompiled(model: nn.Module) -> nn.Module:
    """The module inside what `torch.compile(model)` returns, which calls it; any other model is itself."""
    return getattr(model, "_orig_mod", model)


def say_compiled(model: nn.Module, body: nn.Module, *, by_host: bool = False) -> None:
    """Log what of a model is compiled. by_host: the loop is about to compile the whole of it."""
    compiled = [part for part in (model, body) if uncompiled(part) is not part or part._compiled_call_impl is not None]
    if compiled or by_host:
        logger.info(
            "torch.compile: the body (%s) is compiled; the head and the losses run without logits, and are not",
            type(uncompiled(body)).__name__,
        )
