"""The run file: one YAML mapping, checked key by key, with `key=value` on top. Needs pyyaml."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from samplewise.core.errors import SamplewiseError
from samplewise.rules import parse_rule, parse_token_rule
from samplewise.rules.parse import nearest

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class ScoreConfig:
    """A column of a folder that `samplewise score` has written: "loss", or one of --as NAME."""

    folder: str
    column: str = "loss"


@dataclass(frozen=True)
class ScoresConfig:
    """Losses of the training windows by column, each a folder of scores (its column "loss") or a `ScoreConfig`.

    stored_loss: what a rule sees with loss_from stored. reference_loss: what by("excess", …) compares with.
    """

    stored_loss: str | ScoreConfig | None = None
    reference_loss: str | ScoreConfig | None = None


@dataclass(frozen=True)
class DataConfig:
    """What is read, and how it is cut.

    path, text_field, on_error: as in `read_documents`; name, split: of a `datasets` name (its configuration and split).
    streaming: documents are read while training goes on, so that a corpus of any size fits; duplicates within the
        training text are then not looked for, and training.max_steps must say where to end.
    max_length, min_tokens: as in `cut_windows`.
    held_out: share of documents held out, by a hash of their text.
    held_out_from: instead of a share: a path of its own, or, for a `datasets` name, the name of another split.
    held_out_documents: how many held-out documents are evaluated at most (those of the smallest hashes; of a stream
        the first met, and there it must be given). held_out_windows: at most so many windows of each, from its start.
    duplicates: "remove" the exact and near-duplicates within the training text, or "keep" them. Either way the same
        documents are held out, each once, and no copy of them is trained on. What repeats within a stream stays.
    groups: "folder": the first folder below the data root that a document is in (or its file, where it is in none) is
        the group of its windows, for rules over groups; null: there are none.
    scores: losses that `samplewise score` has written of this path, max_length and min_tokens; joined by id.
    """

    path: str
    kind: Literal["text"] = "text"
    text_field: str = "text"
    max_length: int = 512
    min_tokens: int = 16
    held_out: float = 0.05
    held_out_from: str | None = None
    held_out_documents: int | None = None
    held_out_windows: int | None = None
    on_error: Literal["raise", "skip"] = "raise"
    name: str | None = None
    split: str = "train"
    streaming: bool = False
    duplicates: Literal["remove", "keep"] = "remove"
    groups: Literal["folder"] | None = None
    scores: ScoresConfig | None = None


@dataclass(frozen=True)
class InstructionsConfig:
    """Which conversations are read, and how they become tokens.

    path, format, on_error: as in `read_instructions`; name, split: of a `datasets` name.
    chat_template: null for the model's own; "training", "plain", a file or a text, as in `chat_template`.
    max_length: tokens of a conversation at most, and of a packed row.
    turns: every assistant's turn is a sample of its own, not the conversation.
    held_out: share of conversations held out, by a hash of their prompt, so that a question is on one side only.
    held_out_from: instead of a share: a path of its own, or, for a `datasets` name, the name of another split.
    held_out_conversations: how many of them are evaluated at most (those of the smallest hashes).
    """

    path: str
    kind: Literal["instructions"] = "instructions"
    format: Literal["auto", "alpaca", "sharegpt", "messages", "prompt_completion"] = "auto"
    chat_template: str | None = None
    max_length: int = 1024
    turns: bool = False
    held_out: float = 0.05
    held_out_from: str | None = None
    held_out_conversations: int | None = None
    on_error: Literal["raise", "skip"] = "raise"
    name: str | None = None
    split: str = "train"


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters, trained in place of the model's weights: the fields of `peft.LoraConfig`.

    alpha: lora_alpha; dropout: lora_dropout. target_modules: names of the layers that get one, "all-linear" for all but
    the head, or null for peft's choice for the model.
    """

    r: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: list[str] | str | None = "all-linear"


@dataclass(frozen=True)
class RunConfig:
    """One run: a model, data, a rule, and where the results go.

    model: a hub id, a folder or a .gguf file. data: its `kind` says which. rule: as `parse_rule` reads it.
    training: fields of `transformers.TrainingArguments`, of `trl.SFTConfig` for instructions.
    per, normalize, pool, max_nonfinite, logits, loss_from, log_samples, token_rule, reference_model (a name, as model):
    as in `WeightedTrainer`.
    lora: adapters, or null to train all of the model.
    output: a folder that is this run's own.
    """

    model: str
    data: DataConfig | InstructionsConfig
    rule: str
    output: str
    per: Literal["sample", "token"] = "sample"
    normalize: Literal["step", "micro"] = "step"
    pool: int = 1
    max_nonfinite: float = 0.01
    logits: Literal["refuse", "allow"] = "refuse"
    loss_from: Literal["fresh", "stored"] = "fresh"
    log_samples: str | None = None
    token_rule: str | None = None
    reference_model: str | None = None
    lora: LoraConfig | None = None
    training: dict[str, Any] = field(default_factory=dict)


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> RunConfig:
    """The run that a YAML file describes.

    overrides: "key=value" with dots between levels, such as "training.max_steps=5"; values are read as YAML.
    Errors: SamplewiseError on a file that is not there or no mapping, on unknown keys anywhere (with the nearest
    known one), on values of another type, and on a rule that cannot be read.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "run.yaml"
    >>> _ = file.write_text("model: m\\ndata: {path: docs}\\nrule: ir_dro(r=1)\\noutput: runs/a\\n")
    >>> load_config(file, ["data.max_length=64"]).data.max_length
    64
    """
    config = load_settings(RunConfig, path, overrides)
    parse_rule(config.rule)
    if config.token_rule is not None:
        parse_token_rule(config.token_rule)
    return config


def load_settings(kind: type[Settings], path: str | Path, overrides: Iterable[str] = ()) -> Settings:
    """A dataclass of settings from a YAML file; overrides and errors as in `load_config`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        got = getattr(error, "strerror", None) or str(error)
        raise SamplewiseError(str(path), expected="a readable YAML file", got=got, remedy="Check the path.") from None
    values = _parse(text, str(path))
    if not isinstance(values, dict):
        needed = [each.name for each in fields(kind) if _required(each)]  # pyright: ignore[reportArgumentType]
        raise SamplewiseError(
            str(path), expected=f"a mapping with the keys {', '.join(needed[:-1])} and {needed[-1]}",
            got=type(values).__name__, remedy="The directory examples shows some.",
        )  # fmt: skip
    for override in overrides:
        _override(values, override)
    return _build(kind, values, "")


def to_yaml(config: Any) -> str:
    """The whole configuration, defaults included; what read it reads it back."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """Safe, with two mends: 2e-6 is a number (YAML 1.1 wants 2.0e-6), and a key given twice is an error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _parse(text: str, place: str) -> Any:
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, TypeError, RecursionError) as error:
        got = " ".join(str(error).split())
        raise SamplewiseError(place, expected="YAML", got=got, remedy="Mend it there.") from None


def _override(values: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise SamplewiseError(
            "override", expected="key=value", got=repr(text), remedy="For example training.max_steps=5."
        )
    for part in parts[:-1]:
        below = values.setdefault(part, {})
        if not isinstance(below, dict):
            raise SamplewiseError(
                "override", expected=f"a mapping at {part!r}", got=repr(below), remedy="Check the key."
            )
        values = below
    values[parts[-1]] = _parse(value, key)


def _build(cls: type, values: Any, place: str) -> Any:
    """A dataclass from a mapping; `place` is the path of keys so far, for messages."""
    if not isinstance(values, Mapping):
        raise SamplewiseError(place.rstrip("."), expected="a mapping", got=repr(values), remedy="Indent its keys.")
    hints = get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise SamplewiseError(
                f"{place}{key}", expected="a known key", got="an unknown one", remedy=nearest(str(key), hints)
            )
    for each in fields(cls):
        if each.name not in values and _required(each):
            raise SamplewiseError(f"{place}{each.name}", expected="a value", got="none", remedy="It has no default.")
    return cls(**{key: _value(hints[key], value, f"{place}{key}") for key, value in values.items()})


def _required(each: Any) -> bool:
    from dataclasses import MISSING

    return each.default is MISSING and each.default_factory is MISSING


def _value(hint: Any, value: Any, place: str) -> Any:
    if hint is float and fits(value, hint):
        return float(value)
    options = (get_args(hint) or (hint,)) if get_origin(hint) not in (dict, list) else ()
    shapes = [each for each in options if is_dataclass(each)]
    only = not {*options} - {*shapes, NoneType} and not (value is None and NoneType in options)
    if shapes and (only or isinstance(value, Mapping)):
        return _build(_shape(shapes, value, place), value, f"{place}.")
    if get_origin(hint) is dict and isinstance(value, dict):
        return {key: _value(get_args(hint)[1], each, f"{place}.{key}") for key, each in value.items()}
    if get_origin(hint) is list and isinstance(value, list):
        return [_value(get_args(hint)[0], each, f"{place}.{i}") for i, each in enumerate(value)]
    plain = [each for each in options if each not in shapes] if shapes else [hint]
    if not any(fits(value, each) for each in plain):
        raise SamplewiseError(place, expected=described(hint), got=repr(value), remedy="Check the value.")
    return value


def _shape(shapes: list[Any], value: Any, place: str) -> Any:
    """The dataclass that a mapping's `kind` names, the first where it has none."""
    if len(shapes) == 1 or not isinstance(value, Mapping):
        return shapes[0]
    kinds = {get_args(get_type_hints(each)["kind"])[0]: each for each in shapes}
    kind = value.get("kind", next(iter(kinds)))
    if kind not in kinds:
        expected = " or ".join(map(repr, kinds))
        raise SamplewiseError(f"{place}.kind", expected=expected, got=repr(kind), remedy="Name one of them.")
    return kinds[kind]


def fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value is of an annotated type; True for types that YAML knows nothing of.

    >>> fits(1, float), fits("1", int), fits(None, int | None), fits(True, int)
    (True, False, True, False)
    """
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin is Union or type(hint).__name__ == "UnionType":
        return any(fits(value, each) for each in get_args(hint))
    kind = origin or hint
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind) if kind in (bool, str, dict, list, NoneType) else True


def described(hint: Any) -> str:
    """A type in words."""
    if get_origin(hint) is Literal:
        return " or ".join(repr(each) for each in get_args(hint))
    if args := [each for each in get_args(hint) if get_origin(hint) not in (dict, list)]:
        return " or ".join(described(each) for each in args)
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}
    return names.get(hint) or ("a mapping" if get_origin(hint) is dict else str(getattr(hint, "__name__", hint)))
