"""Causal language models from the hub, a folder or a GGUF file, ready to be trained, scored and saved."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from samplewise.core.errors import SamplewiseError, missing_extra
from samplewise.core.exhausted import MORE_MEMORY, lacks_memory, told, wanting
from samplewise.core.progress import bars_only_if_watched
from samplewise.models.gguf_header import gguf_fields
from samplewise.models.sizes import check_config, check_gguf, check_given, stored_in

DTYPES = {"auto": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_SINGLE_DIGITS = {"smollm", "starcoder", "refact", "command-r", "codeshell"}
_GPT2_SPLIT = {"", "default", "gpt-2", "gpt2", "mpt", "olmo", "jais", "phi-2"}


@dataclass(frozen=True)
class ModelDescription:
    """What was loaded, for printing and for records.

    quantisation: what the weights were stored in where that loses something (Q4_1), else None. parameters: tied ones
    once. context: positions, None where the model sets no bound. autocast: the dtype in which this machine should
    compute ("bfloat16" where it has instructions for it, else None): a training flag, the parameters keep `dtype`.
    pad_token: set here because the tokenizer had none, else None. note: a doubt about the tokenizer, or "".
    """

    name: str
    quantisation: str | None
    parameters: int
    context: int | None
    dtype: str
    autocast: str | None
    pad_token: str | None
    note: str = ""

    def __str__(self) -> str:
        stored = f"{self.quantisation} GGUF, dequantised to {self.dtype}" if self.quantisation else self.dtype
        context = f"context {self.context}" if self.context else "no bound on the context"
        return f"{self.name} ({stored}), {self.parameters / 1e6:,.1f} M parameters, {context}"


def load_model(
    name_or_path: str | Path, *, dtype: str = "auto", trust_remote_code: bool = False
) -> tuple[Any, Any, ModelDescription]:
    """(model, tokenizer, description) of a causal language model, on the CPU, in evaluation mode.

    name_or_path: a hub id, a folder as `save_pretrained` writes it, or a .gguf file, which is dequantised, so that it
        trains and saves as any other model. That takes some 20 s for 135 M parameters; saved once, half a second.
    dtype: of the parameters. "auto" is float32, everywhere: an update of bfloat16 parameters at the learning rates of
        continual training rounds to nothing. Compute in `description.autocast` instead.
    trust_remote_code: runs Python code that comes with the model.

    Weights are read from safetensors or GGUF only, never from pickles. Raises SamplewiseError for what is not found,
    offline or damaged, for encoders and encoder-decoders, for sizes that the weights or the memory cannot have (checked
    before anything is built), and for a GGUF that transformers cannot read.

    >>> load_model("no/such/folder/model.gguf")
    Traceback (most recent call last):
    samplewise.core.errors.SamplewiseError: no/such/folder/model.gguf: expected a .gguf file, got no such file. ...
    """
    if dtype not in DTYPES:
        raise SamplewiseError(
            "dtype", expected=f"one of {', '.join(DTYPES)}", got=repr(dtype), remedy="Choose one of them."
        )
    name, fields = _found(name_or_path)
    model, tokenizer = _load(name, fields, dtype, trust_remote_code)
    note = _mend_split(tokenizer, str(fields.get("tokenizer.ggml.pre", ""))) if fields else ""
    pad = _give_padding(tokenizer)
    quantisation = _quantisation(fields)
    return model, tokenizer, ModelDescription(
        name=Path(name).stem.removesuffix(f".{quantisation}") if fields else name,
        quantisation=quantisation,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        context=getattr(model.config.get_text_config(), "max_position_embeddings", None),
        dtype=str(model.dtype).removeprefix("torch."),
        autocast="bfloat16" if native_bfloat16() else None,
        pad_token=pad,
        note=note,
    )  # fmt: skip


def _found(name_or_path: str | Path) -> tuple[str, dict[str, Any]]:
    """(the name, the header's fields of a .gguf file). Raises SamplewiseError for a path that leads to nothing."""
    name = os.path.expanduser(str(name_or_path))
    fields = gguf_fields(name) if name.endswith(".gguf") else {}
    if not fields and not os.path.isdir(name) and (os.path.exists(name) or name.count("/") > 1 or name[:1] in "./"):
        raise SamplewiseError(
            name, expected="a hub id (org/name), a folder with config.json, or a .gguf file",
            got="a file" if os.path.exists(name) else "no such folder", remedy="Check the path.",
        )  # fmt: skip
    return name, fields


def load_tokenizer(name_or_path: str | Path) -> Any:
    """The tokenizer that `load_model` gives with a model, without loading the model."""
    return tokenizer_with_note(name_or_path)[0]


def tokenizer_with_note(name_or_path: str | Path) -> tuple[Any, str]:
    """(the tokenizer as in `load_tokenizer`, a doubt about it, or "")."""
    name, fields = _found(name_or_path)
    place = _in_gguf(name) if fields else {"pretrained_model_name_or_path": name, "trust_remote_code": False}
    try:
        import transformers
    except ModuleNotFoundError:
        raise missing_extra("transformers", "hf", name) from None
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(**place)
    except Exception as error:  # as in `_load`
        _say_what_is_missing(name, error)
        if fields:
            raise _not_loaded(name, fields, error) from error
        got = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        remedy = "Give --tokenizer the hub id, folder or .gguf file of a model that has it."
        raise SamplewiseError(name, expected="a tokenizer", got=got, remedy=remedy) from error
    note = ""
    if fields:
        _drop_strays(tokenizer, fields["GGUF.rows"] or len(tokenizer))
        note = _mend_split(tokenizer, str(fields.get("tokenizer.ggml.pre", "")))
    _check_limit(name, tokenizer)
    _give_padding(tokenizer)
    return tokenizer, note


def _in_gguf(name: str) -> dict[str, Any]:
    if importlib.util.find_spec("gguf") is None:
        raise missing_extra("gguf", "hf", name)
    return {"pretrained_model_name_or_path": os.path.dirname(name) or ".", "gguf_file": os.path.basename(name)}


def _check_limit(name: str, tokenizer: Any) -> None:
    """Raises unless the longest input that a tokenizer's files name is a number: lengths are compared with it."""
    limit = tokenizer.model_max_length
    if isinstance(limit, bool) or not isinstance(limit, (int, float)):
        raise SamplewiseError(
            name, expected="a number as model_max_length in tokenizer_config.json", got=repr(limit)[:100],
            remedy="Correct that file, or leave the entry out.",
        )  # fmt: skip


def _give_padding(tokenizer: Any) -> str | None:
    """Set a padding token where there is none, and return it."""
    pad = None if tokenizer.pad_token_id is not None else tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    if pad is not None:
        tokenizer.pad_token = pad
    return pad


def native_bfloat16() -> bool:
    """Whether the machine multiplies in bfloat16 by itself, and faster than in float32.

    Intel's AVX512-BF16 without AMX does not: matrix products took 1.8 times as long, a training step too.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    names = ["amx_bf16", "bf16"]  # x86, ARM
    if "Intel" not in str(capabilities.get("cpu_name")):
        names.append("avx512_bf16")
    return any(capabilities.get(name) for name in names)


def _load(name: str, fields: dict[str, Any], dtype: str, trust: bool) -> tuple[Any, Any]:
    try:
        import transformers
    except ModuleNotFoundError:
        raise missing_extra("transformers", "hf", name) from None
    if fields:
        place = _in_gguf(name)
        check_gguf(name, fields)
        options = _dequantise()
    else:
        place = {"pretrained_model_name_or_path": name, "trust_remote_code": trust}
        options = {"use_safetensors": True}
    try:
        if not fields:
            check_given(name, transformers.PretrainedConfig.get_config_dict(name)[0])
            config = transformers.AutoConfig.from_pretrained(**place)
            _check_causal(config, name)
            check_config(name, config.get_text_config(), stored_in(name))
        load: Any = transformers.AutoModelForCausalLM.from_pretrained
        with bars_only_if_watched():
            model, info = load(**place, **options, dtype=DTYPES[dtype], output_loading_info=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(**place)
    except SamplewiseError:
        raise
    except Exception as error:  # transformers raises OSError, ValueError, KeyError, RuntimeError and others
        _say_what_is_missing(name, error)
        raise _not_loaded(name, fields, error) from error
    if fields:
        _drop_strays(tokenizer, model.get_input_embeddings().num_embeddings)
    _check_whole(name, model, tokenizer, info["missing_keys"])
    _check_limit(name, tokenizer)
    return _without_quantizer(model), tokenizer


def _say_what_is_missing(name: str, error: Exception) -> None:
    """Raise SamplewiseError where the machine has no memory or threads left: the files are none the worse."""
    if lacks_memory(error):
        said = " ".join(str(error).split())[:200] or "none left"
        raise SamplewiseError(name, expected="enough memory to load it", got=said, remedy=MORE_MEMORY) from error
    if want := wanting(error):
        raise told(want, name, "loading it", "run the same command again") from error


def _check_causal(config: Any, name: str) -> None:
    """Raises unless each position sees the past only, as far as a config tells."""
    heads = getattr(config, "architectures", None) or []
    named = f"{config.model_type} ({', '.join(heads)})"
    causal = not heads or any("CausalLM" in head or "LMHead" in head for head in heads)
    if config.is_encoder_decoder:
        got = f"an encoder-decoder, {named}"
    elif any(word in head for head in heads for word in ("MaskedLM", "Classification", "QuestionAnswering")):
        got = f"a model for another task, {named}"
    elif getattr(config, "is_decoder", None) is False and not causal:  # decoders lack the field, or name a causal head
        got = f"an encoder, {named}"
    else:
        return
    raise SamplewiseError(
        name, expected="a causal language model (decoder only)", got=got,
        remedy="Use a model such as GPT-2, OPT, Llama or Qwen.",
    )  # fmt: skip


def _check_whole(name: str, model: Any, tokenizer: Any, missing: Any) -> None:
    _check_causal(model.config, name)
    if missing:
        raise SamplewiseError(
            name, expected="the weights of a whole causal language model", got=f"no {', '.join(sorted(missing)[:3])}",
            remedy="Give a model with its language-model head.",
        )  # fmt: skip
    size = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > size:
        raise SamplewiseError(
            name, expected=f"a tokenizer with at most the {size} tokens of the model", got=len(tokenizer),
            remedy="Save the model's own tokenizer in its folder.",
        )  # fmt: skip


def _not_loaded(name: str, fields: dict[str, Any], error: Exception) -> SamplewiseError:
    got = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if fields:
        expected = "a whole GGUF file of an architecture that transformers reads"
        architecture = fields.get("general.architecture", "none")
        remedy = f"This file's architecture is {architecture!r}; if the file is whole, give the model's safetensors."
    elif os.path.isdir(name):
        expected = "a folder with config.json, safetensors weights and a tokenizer"
        remedy = "Save model and tokenizer there with save_pretrained; weights in pickles (.bin) are not read."
    else:
        expected = "a causal language model on the hub, with safetensors weights"
        remedy = "Check the name and the network, or download the model and give its folder."
    return SamplewiseError(name, expected=expected, got=got, remedy=remedy)


def _quantisation(fields: dict[str, Any]) -> str | None:
    if not fields:
        return None
    from gguf import LlamaFileType

    try:
        return LlamaFileType(fields.get("general.file_type")).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    except ValueError:
        return "unnamed type"


def _dequantise() -> dict[str, Any]:
    """What makes transformers unpack all weights: an option since GGUF became one of its quantizers."""
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


def _without_quantizer(model: Any) -> Any:
    """The same model as one that was never quantised: a Trainer and save_pretrained refuse what has a quantizer."""
    if getattr(model.config, "quantization_config", None) is None:
        return model
    config = copy.deepcopy(model.config)
    del config.quantization_config
    plain = type(model)(config).to(model.dtype)  # for a moment twice the memory
    plain.load_state_dict(model.state_dict())
    plain.tie_weights()
    return plain.eval()


def _drop_strays(tokenizer: Any, size: int) -> None:
    """Takes out added tokens that the model has no row for: transformers gives each byte-level GGUF vocabulary an
    <|endoftext|>, and a text that holds these characters would index past the embedding.
    """
    if len(tokenizer) > size and hasattr(tokenizer, "backend_tokenizer"):
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < size]
        tokenizer._tokenizer = type(tokenizer.backend_tokenizer).from_str(json.dumps(state))


def _mend_split(tokenizer: Any, rule: str) -> str:
    """Sets the digit split that transformers leaves out for some vocabularies; a note where a rule is not known.

    With GPT-2's split alone, a run of spaces or line feeds before a digit becomes other tokens than in training: on
    technical English in one document of seven.
    """
    from tokenizers import pre_tokenizers

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel) or rule in _GPT2_SPLIT:
        return ""
    if rule not in _SINGLE_DIGITS:
        return f"the GGUF's split rule {rule!r} is not known here; GPT-2's is used, so that some tokens may differ"
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return ""
