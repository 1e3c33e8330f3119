"""What every arm is measured on: the held-out documents of the plan and other domains, none in the training text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from samplewise.config import DataConfig, InstructionsConfig
from samplewise.core.errors import SamplewiseError
from samplewise.data import Document, Window, cut_windows, deduplicate, read_documents
from samplewise.evidence.evaluate import Evaluation, HeldOut
from samplewise.evidence.initial_model import InitialModel
from samplewise.evidence.outputs import Outputs
from samplewise.evidence.plan import HELD_OUT, PlanConfig
from samplewise.evidence.plan_parts import DomainConfig
from samplewise.evidence.run.execute import Kept, evaluate_in, prepare_any
from samplewise.evidence.run.prepared import Prepared
from samplewise.evidence.run.trainer import HistoryMixin


@dataclass(frozen=True)
class EvaluationSuite:
    """What every arm is measured on.

    sets: windows by name of the set, the held-out ones first. lines: what was read, in words. kept: the batches of each
    set, made once for all arms.
    """

    sets: Mapping[str, Sequence[HeldOut]]
    lines: list[str]
    kept: dict[str, Kept] = field(default_factory=dict)

    def measure(
        self, trainer: HistoryMixin, data: Prepared, title: str, outputs: dict[str, Outputs] | None = None
    ) -> dict[str, Evaluation]:
        """Evaluate the model of the trainer on every set. outputs: is filled, by set, where it is given."""
        found = {}
        for name, windows in self.sets.items():
            own = None if outputs is None else outputs.setdefault(name, Outputs(len(windows)))
            found[name] = evaluate_in(
                trainer, replace(data, held_out=windows), f"{title}, {name}", own, self.kept.setdefault(name, {})
            )
        return found


def open_data(plan: PlanConfig, initial: InitialModel) -> tuple[Prepared, EvaluationSuite]:
    """The plan's own training text, and what all arms are measured on."""
    data = prepare_any(plan.data, initial.tokenizer, initial.context, negative=plan.allow_negative)
    sets, lines = _with_domains(data, plan.data, plan.domains, initial)
    return data, EvaluationSuite(sets, lines)


def open_sets(
    data: DataConfig | InstructionsConfig, domains: Mapping[str, DomainConfig], initial: InitialModel
) -> tuple[dict[str, Sequence[HeldOut]], list[str]]:
    """The windows of every set, the held-out ones first, and what was read, in words."""
    return _with_domains(prepare_any(data, initial.tokenizer, initial.context), data, domains, initial)


def _with_domains(
    prepared: Prepared,
    data: DataConfig | InstructionsConfig,
    domains: Mapping[str, DomainConfig],
    initial: InitialModel,
) -> tuple[dict[str, Sequence[HeldOut]], list[str]]:
    sets: dict[str, Sequence[HeldOut]] = {HELD_OUT: prepared.held_out}
    lines = list(prepared.lines)
    known = _texts(data) if domains else []
    for name, domain in domains.items():
        sets[name], line = _domain(name, domain, data, initial, known)
        lines.append(line)
    return sets, lines


def _texts(data: DataConfig | InstructionsConfig) -> list[Document]:
    """The training corpus, to search for duplicates; empty for streams and instructions, which are not searched."""
    if isinstance(data, InstructionsConfig) or data.streaming:
        return []
    return list(
        read_documents(
            data.path, text_field=data.text_field, on_error=data.on_error, config=data.name, split=data.split
        )
    )


def _domain(
    name: str, domain: DomainConfig, data: DataConfig | InstructionsConfig, initial: InitialModel, known: list[Document]
) -> tuple[list[Window], str]:
    read = read_documents(
        domain.path, text_field=domain.text_field, config=domain.name, split=domain.split, on_error=data.on_error
    )
    kept, copies = _new(read, known, domain.documents)
    cut = cut_windows(
        kept,
        initial.tokenizer,
        max_length=data.max_length,
        min_tokens=getattr(data, "min_tokens", 16),
        context=initial.context,
    )
    windows = [window for window in cut if domain.windows is None or window.index < domain.windows]
    if not windows:
        raise SamplewiseError(
            f"domains.{name}", expected="documents of at least data.min_tokens that are not in the training text",
            got=f"none among {len(kept)} of {domain.path}", remedy="Name text that is not in the training data.",
        )  # fmt: skip
    documents = len({window.doc_id for window in windows})
    tokens = sum(window.tokens for window in windows)
    return (
        windows,
        f"{name:<10} {documents:,} documents, {len(windows):,} windows, {tokens:,} tokens ({copies} copies out)",
    )


def _new(documents: Iterable[Document], known: list[Document], most: int) -> tuple[list[Document], int]:
    """The first `most` documents that repeat neither each other nor a known one, and the number of those that did."""
    some = list(islice(documents, 2 * most))
    own = {id(document) for document in some}
    kept = [document for document in deduplicate([*known, *some]).kept if id(document) in own]
    return kept[:most], len(some) - len(kept)
