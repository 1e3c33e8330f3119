"""Fingerprints of what scores depend on beside the corpus: the model's weights, the tokenizer, the chat template."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import nn

from samplewise.data.template import ChatTemplate


def fingerprint_model(model: nn.Module) -> str:
    """The fingerprint of all weights and buffers by name, in the precision they were loaded in; about 1 s for 2 GB."""
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        own = tensor.detach().cpu().contiguous()
        found.update(f"{name} {own.dtype} {tuple(own.shape)}\n".encode())
        found.update(own.reshape(-1).view(torch.uint8).numpy().data if own.numel() else b"")
    return found.hexdigest()


def fingerprint_tokenizer(tokenizer: Any) -> str:
    """The fingerprint of a tokenizer: vocabulary, merges and splits, and special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    inner = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    special = json.dumps({key: str(value) for key, value in sorted(tokenizer.special_tokens_map.items())})
    return hashlib.blake2b(f"{inner}\n{special}".encode(), digest_size=16).hexdigest()


def fingerprint_template(template: ChatTemplate) -> str:
    """The fingerprint of a chat template: its text, or all templates of the tokenizer by name."""
    return hashlib.blake2b(template.source.encode(), digest_size=16).hexdigest()
