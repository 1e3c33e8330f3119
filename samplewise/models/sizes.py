"""Whether the sizes of a model can be true, asked before it is built: a bad number must not fill the memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samplewise.core.errors import SamplewiseError

MOST = {
    re.compile(r"(num|n)_(hidden_)?layers?|(en|de)coder_layers|num_(en|de)coder_layers"): 10_000,
    re.compile(r".*(experts|heads)|n_head"): 100_000,
    re.compile(r".*(hidden|intermediate)_size|n_embd|n_inner|d_model|d_ff|ffn_dim"): 10_000_000,
    re.compile(r"vocab_size"): 100_000_000,
}
"""Sizes by name, and what no model has ten times over."""
_REMEDY = "Check config.json: it must be that of the weights."


@dataclass(frozen=True)
class Stored:
    """The weights of a folder: the number of tensors, and bytes in all."""

    tensors: int
    bytes: int


def check_given(name: str, values: Mapping[str, Any], remedy: str = _REMEDY) -> None:
    """Check a config as it is written, before a class makes lists of its layers.

    >>> check_given("tiny", {"num_hidden_layers": 10**9})
    Traceback (most recent call last):
    samplewise.core.errors.SamplewiseError: tiny: expected num_hidden_layers of at most 10,000, got 1,000,000,000. ...
    """
    for key, value in _numbers(values):
        for pattern, most in MOST.items():
            if pattern.fullmatch(key) and value > most:
                raise SamplewiseError(name, expected=f"{key} of at most {most:,}", got=f"{value:,}", remedy=remedy)


def _numbers(values: Mapping[str, Any], depth: int = 8) -> Iterator[tuple[str, int]]:
    for key, value in values.items():
        if isinstance(value, int) and not isinstance(value, bool):
            yield str(key), value
        elif isinstance(value, Mapping) and depth:
            yield from _numbers(value, depth - 1)


def check_config(name: str, config: Any, stored: Stored | None, remedy: str = _REMEDY) -> None:
    """Check the sizes of a config with its defaults against the weights, or, where these are not here, the memory.

    config: of the text. stored: the weights that are there.
    """
    layers, width, inner, words = (_size(config, key) for key in _SIZES)
    if stored is not None:
        # a weight takes a bit at least; a layer has one tensor, and few models store several as one
        if layers > stored.tensors:
            raise _too_large(name, f"at most {stored.tensors:,} layers, as many as there are tensors", layers, remedy)
        largest = max(width * words, width * inner)
        if largest > 8 * stored.bytes:
            most = f"no matrix of more numbers than its {stored.bytes:,} bytes of weights can hold"
            raise _too_large(name, most, largest, remedy)
    least, memory = 4 * (width * words + layers * width * (inner + width)), _memory()
    if stored is None and least > memory:
        raise _too_large(name, f"a model that fits into {memory / 1e9:,.1f} GB", f"{least / 1e9:,.1f} GB", remedy)


_SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size")


def _size(config: Any, key: str) -> int:
    found = getattr(config, key, 0)
    return found if isinstance(found, int) else 0


def _too_large(name: str, expected: str, got: int | str, remedy: str) -> SamplewiseError:
    return SamplewiseError(name, expected=expected, got=f"{got:,}" if isinstance(got, int) else got, remedy=remedy)


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def stored_in(folder: str) -> Stored | None:
    """The safetensors of a folder; None where there are none, or where they are damaged, which loading will tell."""
    from safetensors import SafetensorError, safe_open

    files = sorted(Path(folder).glob("*.safetensors"))
    tensors = 0
    try:
        for file in files:
            with safe_open(file, "pt") as own:
                tensors += len(own.keys())
        return Stored(tensors, sum(file.stat().st_size for file in files)) if files else None
    except (SafetensorError, OSError):
        return None


def check_gguf(path: str, fields: Mapping[str, Any]) -> None:
    """Check that a GGUF file names the sizes of its model, as those left out would be a large model's, and that its
    tensors can have them. fields: as `gguf_fields` gives them.
    """
    architecture, tensors, elements = (fields.get(k) for k in ("general.architecture", "GGUF.tensors", "GGUF.elements"))
    sizes = {key: fields.get(f"{architecture}.{key}") for key in ("block_count", "embedding_length")}
    got = ""
    if not tensors:
        got = "no tensors"
    elif missing := [key for key, value in sizes.items() if not isinstance(value, int) or value < 1]:
        got = f"no {architecture}.{missing[0]}"
    elif fields[f"{architecture}.block_count"] > tensors:
        got = f"{sizes['block_count']:,} layers in {tensors:,} tensors"
    else:
        inner, words = (fields.get(f"{architecture}.{key}", 0) for key in ("feed_forward_length", "vocab_size"))
        factors = [value for value in (inner, words, 1) if isinstance(value, int)]
        if fields[f"{architecture}.embedding_length"] * max(factors) > elements:
            got = f"sizes of more than the {elements:,} numbers that its tensors hold"
    if got:
        raise SamplewiseError(
            path,
            expected="a GGUF file with a model's weights and their sizes",
            got=got,
            remedy="Download the file again.",
        )
