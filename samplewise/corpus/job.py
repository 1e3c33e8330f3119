"""A scoring, made ready: settings, model and corpus, held against what the folder says; and the work of one shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import nn

from samplewise.core.errors import SamplewiseError
from samplewise.core.typed import build
from samplewise.corpus.batching import Budget
from samplewise.corpus.device import compile_layers, measured, on_best_device
from samplewise.corpus.files import Listed, fingerprint, list_corpus
from samplewise.corpus.fingerprints import fingerprint_model, fingerprint_template, fingerprint_tokenizer
from samplewise.corpus.losses import check_model
from samplewise.corpus.manifest import Manifest, read_manifest
from samplewise.corpus.parts import Done, Mark, Parts
from samplewise.corpus.pieces import Piece
from samplewise.corpus.place import Place
from samplewise.corpus.progress import Progress
from samplewise.corpus.reader import Block, Quarantined, Reader, Reading, Rows, rows_of
from samplewise.corpus.settings import (
    CPU_TOKENS,
    SHARD_BYTES,
    ScoreSettings,
    Target,
    check_same,
    settings_from,
    within_context,
)
from samplewise.corpus.shard import Cut, cutter, finish_block, finish_column, score_block, without_losses
from samplewise.corpus.stand_in import MIN_PAIRS
from samplewise.corpus.store import ADDED, check_name
from samplewise.data.formats import FORMATS
from samplewise.data.instructions import SUFFIXES
from samplewise.data.records import place_of
from samplewise.data.sources import is_local
from samplewise.data.template import ChatTemplate, chat_template
from samplewise.data.urls import is_url
from samplewise.data.windows import prefix_of
from samplewise.models import ModelDescription, load_model, native_bfloat16
from samplewise.models.load import tokenizer_with_note
from samplewise.rules.base import uniforms

SAMPLE_SEED = 20240601
"""Of --sample. Another than that of any selection, so that a random one and the sample are independent."""


@dataclass(frozen=True)
class Job:
    """Everything that it takes to score a block. facts: the fingerprints. budget: of batches, as memory allows.

    model, description: None where the corpus is cut into windows without losses. note: a doubt about the tokenizer.
    share: of the windows that are scored.
    """

    target: Target
    settings: ScoreSettings
    parts: Parts
    files: Listed | Rows
    left_out: Counter[str]
    model: nn.Module | None
    tokenizer: Any
    template: ChatTemplate | None
    description: ModelDescription | None
    facts: dict[str, Any]
    budget: Budget
    share: float = 1.0
    note: str = ""

    def cutter(self) -> Cut:
        """What makes pieces of a block's entries."""
        return cutter(self.settings, self.tokenizer, self.template)

    def reader(self) -> Reader:
        """A reader from the start of the corpus."""
        settings = self.settings
        keep = bool(settings.keep_fields)
        reading = Reading(settings.kind, settings.text_field, settings.format, settings.limit, keep=keep)
        return Reader(self.files, reading)


def prepare(target: Target, given: Mapping[str, Any]) -> Job:
    """Load the model and list the corpus; begin the folder, or check that it is of the same run.

    given: fields of `ScoreSettings` that were asked for; the others are those of the folder, else the defaults.
    """
    place = Place(target.out)
    base = _base(place, target)
    parts = Parts(place, "" if target.column is None else f"{ADDED}/{check_name(target.column)}")
    begun = _begun(parts, base)
    settings = settings_from(given, begun or _defaults())
    files, left_out = _corpus(target.data, settings)
    model, tokenizer, description, note = _loaded(target)
    context = None if description is None else description.context
    settings = within_context(settings, given, context, begun is not None)
    template = chat_template(tokenizer, settings.template) if settings.kind == "instructions" else None
    facts = {
        "model": None if model is None else fingerprint_model(model),
        "tokenizer": fingerprint_tokenizer(tokenizer),
        "template": None if template is None else fingerprint_template(template),
        "dtype": None if description is None else description.dtype,
        "corpus": fingerprint(files) if isinstance(files, list) else target.data,
        "settings": asdict(settings),
    }
    share = 1.0
    if target.sample is not None:
        facts["sample"] = target.sample
        share = _share(target.sample, base)
    _check_facts(parts, facts, base)
    job = Job(
        target=target,
        settings=settings,
        parts=parts,
        files=files,
        left_out=left_out,
        model=None if model is None else on_best_device(model),
        tokenizer=tokenizer,
        template=template,
        description=description,
        facts=facts,
        budget=Budget(settings.batch_tokens),
        share=share,
        note=note,
    )
    if not place.exists(parts.inside("manifest.json")):
        _make_ready(job)
    return job


def _loaded(target: Target) -> tuple[nn.Module | None, Any, ModelDescription | None, str]:
    """The model with its tokenizer, description and a doubt; where no losses are wanted, the tokenizer alone."""
    if not target.losses:
        tokenizer, note = tokenizer_with_note(target.model)
        return None, tokenizer, None, note
    dtype = ("bfloat16" if native_bfloat16() else "float32") if target.dtype == "auto" else target.dtype
    model, tokenizer, description = load_model(target.model, dtype=dtype)
    return model, tokenizer, description, description.note


def _make_ready(job: Job) -> None:
    """Check the model and compile it, before the folder says that a run has begun."""
    new = job.parts.run() is None
    if new and job.model is not None:
        _check_first(job, job.model)
    if job.settings.compiled and job.model is not None:
        compile_layers(job.model)
    if new:
        job.parts.begin(job.facts)


def measure(job: Job) -> str | None:
    """Measure how many ids a batch may have, where nobody said it; returns a line on it, or None."""
    settings = job.settings
    if job.model is None or job.budget.tokens is not None:
        return None
    if next(job.model.parameters()).device.type != "cuda":  # the folder was begun on a GPU
        job.budget.tokens = CPU_TOKENS
        return None
    found = measured(job.model, settings.max_length + max(settings.stride - 1, 0))
    job.budget.tokens = found.tokens
    each = f"{found.each / 1e6:,.2f} MB a token" if found.each > 0 else "nothing tried fits"
    return f"batches    of at most {found.tokens:,} tokens: {found.free / 1e9:,.1f} GB are free, {each}"


def work(
    job: Job, index: int, block: Block, found: list[Piece | Quarantined], before: float, progress: Progress
) -> Done:
    """Score one block, cut into what was found, and write its shard. before: the share of the corpus at its start."""
    if job.target.strict:
        _refuse_quarantined(found)
    if job.share < 1.0:
        found = _drawn(found, job.share)
    progress.begin(before, block.share, sum(each.n_tokens for each in found if isinstance(each, Piece)))
    if job.model is None:
        scored = without_losses(found)
        progress.advance(sum(piece.n_tokens for piece in scored[0]))
    else:
        prefix = prefix_of(job.tokenizer).id
        scored = score_block(job.model, found, job.settings, job.budget, progress.advance, prefix)
    if job.target.strict:
        _refuse_quarantined(scored[2])
    if job.target.column is not None:
        return finish_column(job.parts, index, job.target.column, len(block.entries), scored)
    return finish_block(job.parts, index, job.settings, block.entries, scored)


def _share(sample: int, base: Manifest | None) -> float:
    if base is None:
        raise SamplewiseError(
            "--sample", expected="--as NAME, and scores of the whole corpus to compare with", got="no --as",
            remedy="Score the corpus with the smaller model first, then add this model's losses with --as.",
        )  # fmt: skip
    if not base.has_losses:
        raise SamplewiseError(
            "--sample", expected="scores with losses, which the sample is compared with", got="windows without losses",
            remedy="Leave it out: --as alone scores every window.",
        )  # fmt: skip
    if sample < MIN_PAIRS:
        raise SamplewiseError(
            "--sample", expected=f"at least {MIN_PAIRS} windows", got=sample,
            remedy="A rank correlation of fewer says little: 1,000 give it to ±0.02 where it is high.",
        )  # fmt: skip
    return min(1.0, sample / max(1, base.windows))


def _drawn(found: list[Piece | Quarantined], share: float) -> list[Piece | Quarantined]:
    """What is quarantined, and the pieces whose ids are drawn: the same in every process and every run."""
    ids = torch.tensor([each.id for each in found if isinstance(each, Piece)], dtype=torch.int64)
    drawn = iter((uniforms(ids, 0, SAMPLE_SEED) < share).tolist())
    return [each for each in found if isinstance(each, Quarantined) or next(drawn)]


def mark_of(block: Block) -> Mark:
    """The mark at which a block of records ends."""
    return Mark(block.end, block.last, 1.0 if block.last else block.share)


def _base(place: Place, target: Target) -> Manifest | None:
    """The scores that a column is added to. Raises SamplewiseError where they are not finished."""
    return None if target.column is None else read_manifest(place)


def _begun(parts: Parts, base: Manifest | None) -> ScoreSettings | None:
    """The settings of what was begun here, else of the scores that a column is added to; None at a start."""
    facts = parts.run()
    if facts is None and parts.place.exists(parts.inside("manifest.json")):
        facts = read_manifest(parts.place, parts.folder).fingerprints
    of_base = facts is None and base is not None
    facts = base.fingerprints if of_base and base is not None else facts
    if not facts or "settings" not in facts:
        return None
    settings = build(ScoreSettings, facts["settings"], f"{parts.place}: settings.")
    return replace(settings, batch_tokens=_defaults().batch_tokens, compiled=False) if of_base else settings


def _defaults() -> ScoreSettings:
    if torch.cuda.is_available():
        return ScoreSettings(shard_bytes=SHARD_BYTES["accelerator"], batch_tokens=None)
    return ScoreSettings()


def _corpus(data: str, settings: ScoreSettings) -> tuple[Listed | Rows, Counter[str]]:
    if not is_url(data) and not is_local(data) and not data.startswith("file://"):
        return rows_of(data, settings.config, settings.split, settings.streaming), Counter()
    return list_corpus(data, SUFFIXES if settings.kind == "instructions" else tuple(FORMATS))


def _check_facts(parts: Parts, facts: dict[str, Any], base: Manifest | None) -> None:
    """Raises SamplewiseError where this is another run than the one that the folder has begun, finished or is of."""
    if base is not None:
        others = ("model", "dtype", "sample", "settings.batch_tokens", "settings.compiled")
        check_same(facts, base.fingerprints, str(parts.place), leave_out=others)
    begun = parts.run()
    if parts.place.exists(parts.inside("manifest.json")):
        begun = read_manifest(parts.place, parts.folder).fingerprints
    if begun is not None:
        _check_losses(facts, begun, parts)
        check_same(facts, begun, parts.place.inside(parts.folder) if parts.folder else str(parts.place))
        return
    foreign = [] if parts.folder else [name for name in parts.place.names() if not name.startswith(".")]
    if foreign:
        raise SamplewiseError(
            "--out", expected="an empty folder, or one of this run", got=f"{parts.place} with {', '.join(foreign[:5])}",
            remedy="Name a new or empty folder.",
        )  # fmt: skip


def _check_losses(facts: dict[str, Any], begun: Mapping[str, Any], parts: Parts) -> None:
    """Raises SamplewiseError where one of the two runs computes losses, and the other only cuts windows."""
    there = begun.get("model", "") is not None
    if there != (facts["model"] is not None):
        raise SamplewiseError(
            "--out", expected="an empty folder, or one of this run",
            got=f"{parts.place}, {'scores with losses' if there else 'windows without losses'}",
            remedy="Name another folder: samplewise importance reads those as they are." if there
            else "Add --as NAME to add the losses as a column, or name another folder.",
        )  # fmt: skip


def _check_first(job: Job, model: nn.Module) -> None:
    """Check the model on the first pieces, before hours are spent."""
    block = job.reader().block(2**12)
    found = job.cutter()(block.entries)
    pieces = list(islice((each for each in found if isinstance(each, Piece)), 2))
    if pieces:
        check_model(model, pieces)


def _refuse_quarantined(found: list[Any]) -> None:
    for each in found:
        if isinstance(each, Quarantined):
            raise SamplewiseError(
                place_of(each.source, each.row, each.line), expected="a record that can be scored (--strict is on)",
                got=f"{each.reason}: {each.got}", remedy="Fix the record, or omit --strict to quarantine it.",
            )  # fmt: skip
