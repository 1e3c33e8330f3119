"""Loads a reference model that is given by name."""

from __future__ import annotations

from dataclasses import replace

from samplewise.engine.options import WeightingOptions


def with_loaded_reference(options: WeightingOptions) -> WeightingOptions:
    """The options with the reference model itself where they have its name: a hub id, a folder or a .gguf file."""
    if not isinstance(options.reference_model, str):
        return options
    from samplewise.models import load_model  # transformers, only where a name is given

    return replace(options, reference_model=load_model(options.reference_model)[0])
