"""What `samplewise score` is asked to do, and the fingerprints that two runs into one folder must share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.reader import Kind
from samplewise.corpus.table import COLUMNS
from samplewise.data.row_shapes import FIELDS as FORMS

SHARD_BYTES = {"cpu": 2**20, "accelerator": 2**26}
CPU_TOKENS = 2**11
"""Ids of a batch. On a CPU the size makes no difference from 512 to 4,096; 8,192 were slower (SmolLM2-135M, bf16)."""


@dataclass(frozen=True)
class ScoreSettings:
    """What is read and how it is cut. A folder of scores has one of these; columns added later share it.

    kind, text_field, format, template: of the data; config, split, streaming: of a `datasets` name. limit: the first
    records only. max_length, min_tokens, stride, rolling, characters: as in `pieces.Cutting`; a max_length that is not
    given follows a model of a shorter context. shard_bytes: of text to a shard, the work that a killed run may lose.
    batch_tokens: ids to a batch; None: measured from the memory of each device, so that sums may be rounded otherwise.
    compiled: whether the model's layers are compiled. keep_fields: of the records, each a column of the scores as text
    (`data.fields`).
    answers: of conversations, also the loss of the answers without what is said before them.
    """

    kind: Kind = "text"
    text_field: str = "text"
    format: str = "auto"
    template: str | None = None
    config: str | None = None
    split: str = "train"
    streaming: bool = False
    limit: int | None = None
    max_length: int = 512
    min_tokens: int = 16
    stride: int = 0
    rolling: bool = False
    characters: int = 200
    shard_bytes: int = SHARD_BYTES["cpu"]
    batch_tokens: int | None = CPU_TOKENS
    keep_fields: list[str] = field(default_factory=list)
    answers: bool = False
    compiled: bool = False


@dataclass(frozen=True)
class Target:
    """model: as in `load_model`; data: as in `read_documents`, or a URL; out: a folder or URL; column: None, or the
    name under which the loss is added to the finished scores in `out`.

    losses: whether the model is loaded and its losses computed. If not, the corpus is only cut into windows, by the
    tokenizer of `model` alone.

    sample: with a column, score about so many windows, drawn by their ids, and leave the others without a loss: enough
    to see how well the scores stand in for this model's (`stand_in`).
    """

    model: str
    data: str
    out: str
    column: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    strict: bool = False
    sample: int | None = None
    losses: bool = True


LEAST = {
    "limit": 1, "max_length": 2, "min_tokens": 1, "stride": 0, "characters": 0, "shard_bytes": 1, "batch_tokens": 1,
}  # fmt: skip


def settings_from(given: Mapping[str, Any], defaults: ScoreSettings) -> ScoreSettings:
    """Settings with those that were given, not None, in place of the defaults. Raises SamplewiseError on bad ones.

    A default of min_tokens is below a max_length that was given.
    """
    chosen = {key: value for key, value in given.items() if value is not None}
    settings = replace(defaults, **chosen)
    if settings.format not in ("auto", *FORMS):
        raise SamplewiseError(
            "--format", expected=f"auto or one of {', '.join(FORMS)}", got=repr(settings.format),
            remedy="Leave it out: each row is taken for the form whose fields it has.",
        )  # fmt: skip
    for name, bound in LEAST.items():
        value = getattr(settings, name)
        if value is not None and value < bound:
            option = "--" + name.replace("_", "-")
            raise SamplewiseError(
                option,
                expected=f"at least {bound}",
                got=value,
                remedy="Raise the value, or omit the option for its default.",
            )
    check_kept(settings.keep_fields)
    if settings.answers and settings.kind != "instructions":
        raise SamplewiseError(
            "--answers", expected="--kind instructions", got=f"--kind {settings.kind}",
            remedy="Only conversations have answers: leave it out.",
        )  # fmt: skip
    if "min_tokens" not in chosen:
        settings = replace(settings, min_tokens=min(settings.min_tokens, settings.max_length - 1))
    if settings.min_tokens >= settings.max_length:
        raise SamplewiseError(
            "--min-tokens", expected=f"below --max-length, {settings.max_length}", got=settings.min_tokens,
            remedy="Lower --min-tokens.",
        )  # fmt: skip
    if settings.rolling and settings.stride:
        raise SamplewiseError(
            "--rolling",
            expected="--rolling without --stride",
            got=settings.stride,
            remedy="Give one of them: each sets the context of a window.",
        )
    return settings


def check_kept(names: list[str]) -> None:
    """Raises SamplewiseError for fields that cannot be columns of the scores."""
    for name in names:
        fault = "twice" if names.count(name) > 1 else ""
        if name in COLUMNS or name.lower() in ("key", "part", "kept", "excess"):
            fault = "which the scores use themselves"
        elif not name.strip() or not name.isprintable() or '"' in name or len(name) > 200:
            fault = "which cannot be the name of a column"
        if fault:
            raise SamplewiseError(
                "--keep-fields", expected="names of fields, such as url,meta.domain", got=f"{name!r}, {fault}",
                remedy="Leave it out. select --within record.FIELD reads a field of the records whatever its name.",
            )  # fmt: skip


def within_context(
    settings: ScoreSettings, given: Mapping[str, Any], context: int | None, begun: bool = False
) -> ScoreSettings:
    """Settings whose windows fit into a model's context, positions; None for one without an end.

    A max_length that nobody gave becomes what the context leaves room for, beside the stride. begun: the settings are
    those of a folder that is there already.
    Raises SamplewiseError where what was given does not fit, and names what was given alone.
    """
    before = max(settings.stride - 1, 0)
    if context is None or settings.max_length + before <= context:
        return settings
    free = given.get("max_length") is None and not begun
    if free and context - before >= LEAST["max_length"]:
        return settings_from({**given, "max_length": context - before}, settings)
    remedy = "Lower it, or leave it out: the default follows the model."
    if begun:
        remedy = "The scores there are of windows that long: take a model of a longer context, or another folder."
    elif settings.stride:
        remedy = "Lower one of them."
    raise SamplewiseError(
        "--stride" if free else "--max-length",
        expected=f"{'with --stride ' if settings.stride else ''}at most the model's context, {context}",
        got=settings.max_length + before, remedy=remedy,
    )  # fmt: skip


def check_same(here: Mapping[str, Any], there: Mapping[str, Any], place: str, leave_out: tuple[str, ...] = ()) -> None:
    """Raises SamplewiseError naming the first difference between two runs' fingerprints."""
    ours, theirs = _flat(here), _flat(there)
    for key in sorted(ours.keys() | theirs.keys()):
        if key not in leave_out and ours.get(key) != theirs.get(key):
            raise SamplewiseError(
                "--out", expected="a folder of the same model, tokenizer, data and settings",
                got=f"{place}, where {key} was {theirs.get(key)!r} and is now {ours.get(key)!r}",
                remedy="Name another folder, or use the same settings as before.",
            )  # fmt: skip


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """By key; settings that a folder does not name, since they are newer than it, are their defaults."""
    flat = {key: value for key, value in values.items() if key != "settings"}
    settings = asdict(ScoreSettings()) | dict(values["settings"]) if values.get("settings") else {}
    return flat | {f"settings.{key}": value for key, value in settings.items()}
