"""Loading of causal language models: a hub id, a folder or a GGUF file."""

from samplewise.models.load import ModelDescription, load_model, native_bfloat16

__all__ = ["ModelDescription", "load_model", "native_bfloat16"]
