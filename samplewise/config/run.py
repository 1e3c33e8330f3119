"""The run file: one YAML mapping, checked key by key, with `key=value` on top. Needs pyyaml."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from samplewise.config.settings_file import load_settings
from samplewise.engine.options import checked_options
from samplewise.engine.weighting import Weighting


@dataclass(frozen=True)
class ScoreConfig:
    """A column of a folder that `samplewise score` has written.

    column: one of --as NAME, for example; null for the loss that training weighs by: "loss", of conversations
        "completion_loss".
    """

    folder: str
    column: str | None = None


@dataclass(frozen=True)
class ScoresConfig:
    """Losses of the training windows or conversations by column, each a folder of scores or a `ScoreConfig`.

    stored_loss: what a rule sees with loss_from stored, what flow() weighs by, and the early loss of by("learnability",
        …). reference_loss: what by("excess", …) compares with, and the late one.
    """

    stored_loss: str | ScoreConfig | None = None
    reference_loss: str | ScoreConfig | None = None


@dataclass(frozen=True)
class DataConfig:
    """What is read, and how it is cut.

    path, text_field, on_error: as in `read_documents`; name, split: of a `datasets` name (its configuration and split).
    streaming: documents are read during training, so that a corpus of any size fits; duplicates within the
        training text are then not looked for, and training.max_steps must say where to end.
    max_length, min_tokens: as in `cut_windows`.
    held_out: share of documents held out, by a hash of their text.
    held_out_from: instead of a share: a path of its own, or, for a `datasets` name, the name of another split.
    held_out_documents: how many held-out documents are evaluated at most (those of the smallest hashes; of a stream
        the first met, and there it must be given). held_out_windows: at most so many windows of each, from its start.
    duplicates: "remove" the exact and near-duplicates within the training text, or "keep" them. Either way the same
        documents are held out, each once, and no copy of them is trained on. What repeats within a stream stays.
    groups: "folder": the first folder below the data root that a document is in (or its file, where it is in none) is
        the group of its windows, for rules over groups; any other text: the value of that field of its record, such as
        meta.domain, of text in memory; null: there are none. A field sample_weight becomes the windows' column.
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
    groups: str | None = None
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
    scores: losses that `samplewise score --kind instructions` has written of this path, template and max_length;
        joined by id. Not with `turns`, whose samples have ids of their own.
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
    scores: ScoresConfig | None = None


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


@dataclass(frozen=True, kw_only=True)
class RunConfig(Weighting):
    """One run: a model, data, a rule, and where the results go.

    model: a hub id, a folder or a .gguf file. data: its `kind` says which.
    rule, token_rule, reference_model, loss_from, per, normalize, pool, max_nonfinite, allow_negative, norm, logits,
    backend, log_samples: how samples are weighed, as in `samplewise.engine.weighting`.
    training: fields of `transformers.TrainingArguments`, of `trl.SFTConfig` for instructions.
    lora: adapters, or null to train all of the model.
    output: a folder that is this run's own.
    """

    model: str
    data: DataConfig | InstructionsConfig
    output: str
    lora: LoraConfig | None = None
    training: dict[str, Any] = field(default_factory=dict)


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> RunConfig:
    """The run that a YAML file describes.

    overrides: "key=value" with dots between levels, such as "training.max_steps=5"; values are read as YAML.
    Errors: SamplewiseError on a file that is not there or no mapping, on unknown keys anywhere (with the nearest
    known one), on values of another type, on a rule that cannot be read, and on options that exclude each other.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "run.yaml"
    >>> _ = file.write_text("model: m\\ndata: {path: docs}\\nrule: ir_dro(r=1)\\noutput: runs/a\\n")
    >>> load_config(file, ["data.max_length=64"]).data.max_length
    64
    """
    config = load_settings(RunConfig, path, overrides)
    checked_options(config)
    return config
