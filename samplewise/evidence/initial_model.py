"""The model that every arm starts from: a trained one, or random weights that are equal under equal seeds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from samplewise.core.errors import SamplewiseError
from samplewise.evidence.plan_parts import ScratchConfig
from samplewise.models import load_model, native_bfloat16
from samplewise.models.sizes import check_config, check_given

LARGEST_VOCABULARY = 2**20
"""Tokens; the trainer sets memory aside for all of them, and ends the process where there is none."""


@dataclass(frozen=True)
class InitialModel:
    """The model that arms start from. fresh: seed → a new copy of it. seeded: whether the copies differ by seed.

    autocast: as in `ModelDescription`.
    """

    tokenizer: Any
    text: str
    context: int | None
    autocast: str | None
    seeded: bool
    fresh: Callable[[int], Any]


def open_initial_model(model: str | ScratchConfig) -> InitialModel:
    """Load a model, or prepare to make one with random weights.

    Errors: SamplewiseError as in `load_model`, and on an unknown config.
    """
    if isinstance(model, ScratchConfig):
        return _scratch(model)
    loaded, tokenizer, description = load_model(model)
    return InitialModel(
        tokenizer=tokenizer, text=str(description), context=description.context, autocast=description.autocast,
        seeded=False, fresh=lambda seed: copy.deepcopy(loaded),
    )  # fmt: skip


def check_reference(name: str, initial: InitialModel) -> None:
    """Errors: SamplewiseError if the reference model is missing or has another tokenizer than the trained model."""
    other = load_model(name)[1]
    if other.get_vocab() != initial.tokenizer.get_vocab():
        raise SamplewiseError(
            "reference_model",
            expected=f"a model with the tokenizer of the trained model ({len(initial.tokenizer):,} tokens)",
            got=f"{name}, whose tokenizer is another one ({len(other):,} tokens)",
            remedy="Name a reference model that has the same tokenizer.",
        )  # fmt: skip


def random_model(config: dict[str, Any], tokenizer: Any, seed: int) -> Any:
    """A causal language model with random weights, a pure function of config and seed; float32, evaluation mode.

    config: model_type and sizes, as `transformers.AutoConfig.for_model` takes them; vocab_size and special tokens are
    the tokenizer's where they are not given.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    given = {
        "vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id, **config,
    }  # fmt: skip
    remedy = "Give the sizes of a small model: hidden_size 256 and 4 layers, for example."
    check_given("model.config", given, remedy)
    try:
        settings = AutoConfig.for_model(**given)
    except Exception as error:  # an unknown model_type is a ValueError, a bad value of many kinds
        raise SamplewiseError(
            "model.config", expected="model_type and sizes of a transformers config", got=str(error)[:200],
            remedy="Write it as {model_type: llama, hidden_size: 256, num_hidden_layers: 4, num_attention_heads: 4}.",
        ) from None  # fmt: skip
    check_config("model.config", settings.get_text_config(), None, remedy)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(settings).float().eval()


def _scratch(model: ScratchConfig) -> InitialModel:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model.tokenizer, trust_remote_code=False)
    except Exception as error:  # OSError, ValueError and others
        raise SamplewiseError(
            "model.tokenizer", expected="a tokenizer's folder or hub id", got=f"{model.tokenizer}: {str(error)[:200]}",
            remedy="Train one with samplewise tokenizer, or check the name.",
        ) from None  # fmt: skip
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    first = random_model(model.config, tokenizer, 0)
    size = sum(parameter.numel() for parameter in first.parameters())
    context = getattr(first.config, "max_position_embeddings", None)
    text = f"{first.config.model_type} with random weights, {size / 1e6:,.2f} M parameters, {len(tokenizer):,} tokens"
    autocast = "bfloat16" if native_bfloat16() else None
    return InitialModel(
        tokenizer=tokenizer,
        text=text,
        context=context,
        autocast=autocast,
        seeded=True,
        fresh=lambda seed: random_model(model.config, tokenizer, seed),
    )


def train_tokenizer(documents: Any, size: int, output: Path) -> Any:
    """Train a byte-level BPE of `size` tokens on texts, and save it to `output` as a transformers tokenizer.

    documents: an iterable of `Document`s. Its tokens are bytes, so that no text is unknown to it; <s> and </s> are BOS
    and EOS, </s> pads too. The same texts give the same tokenizer.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if not 258 <= size <= LARGEST_VOCABULARY:
        raise SamplewiseError(
            "size", expected=f"258 (bytes, BOS, EOS) to {LARGEST_VOCABULARY:,}", got=size,
            remedy="Use 4096 for a small model; well-known models have at most 262,144.",
        )  # fmt: skip
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    backend.train_from_iterator((document.text for document in documents), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.save_pretrained(output)
    return tokenizer
