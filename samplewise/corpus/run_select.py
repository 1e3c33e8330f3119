"""The whole of `samplewise select`: choose, write the files and the statement, and report in a few lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from samplewise.core.columns import WEIGHT
from samplewise.core.errors import SamplewiseError
from samplewise.corpus.amounts import memory_bytes
from samplewise.corpus.guard import inputs, refuse_inputs
from samplewise.corpus.manifest import Manifest
from samplewise.corpus.other_scores import with_joined
from samplewise.corpus.output import IDS, WEIGHTS, file_output, write_ids, write_texts, write_weights
from samplewise.corpus.reread import read_again, scored_settings
from samplewise.corpus.select import select
from samplewise.corpus.selection import Choice, Selection
from samplewise.corpus.statement import sentences, statement, write_statement
from samplewise.corpus.store import open_scores
from samplewise.corpus.texts import OURS, Piece, records_of
from samplewise.corpus.writers import Output, output_of
from samplewise.corpus.writers.output import TOKENS, check_free

Source = Callable[[Iterator[Piece]], Iterable[dict[str, Any]]]


@dataclass(frozen=True)
class Target:
    """What is written where: files, folders or URLs. control: a random selection of the same size, or None.

    data: the corpus, if it has moved. format, shard_size: of records, as in `output_of`. tokenizer: for formats of
    tokens, where the tokenizer of the scores is now. The statement lies beside `out`, named after it.
    """

    kind: Literal["ids", "weights", "texts"]
    out: str
    control: str | None = None
    data: str | None = None
    format: str | None = None
    shard_size: str | None = None
    tokenizer: str | None = None

    def output(self, path: str) -> Output:
        """What `path` means. Errors: SamplewiseError where the kind does not fit the path or the options."""
        if self.kind == "texts":
            return output_of(path, self.format, self.shard_size)
        if self.format is not None or self.shard_size is not None:
            raise SamplewiseError(
                f"--{self.kind}", expected="one file, without --format and --shard-size", got="one of them",
                remedy=f"Leave them out, or leave out --{self.kind}.",
            )  # fmt: skip
        return file_output(path, IDS if self.kind == "ids" else WEIGHTS)


def run_select(
    folder: str, choice: Choice, target: Target, *, memory: str = "2GB", verify: bool = True, join: Sequence[str] = ()
) -> list[str]:
    """Carry it out; the lines that a person reads. Nothing is written before all arguments are known to be good.

    verify: as in `open_scores`. join: further folders of scores, as in `with_joined`.
    """
    memory_bytes(memory)
    scores = with_joined(open_scores(folder, verify=verify), join, verify=verify)
    outputs = {path: target.output(path) for path in (target.out, target.control) if path is not None}
    if target.control is not None and len({str(each) for each in outputs.values()}) == 1:
        raise SamplewiseError(
            "--control", expected="another file than --out", got=target.out, remedy="Name another file."
        )
    guarded = inputs(scores.place, target.data or scores.manifest.made.get("data", ""))
    for path, output in outputs.items():
        refuse_inputs(path, str(output), guarded)
        check_free(output)
    renamed: Counter[str] = Counter()
    records = partial(read_again, scores.manifest, target.data)
    with select(scores, choice, memory=memory, records=records) as selection:
        source = _source(target, outputs[target.out], scores.manifest, selection, renamed)
        control = selection.control() if target.control else None
        said = statement(scores, selection, control)
        for chosen, path in ((selection, target.out), (control, target.control)):
            if chosen and path:
                _write(chosen, target, path, source)
    said["fields_of_the_same_name"] = dict(renamed)
    written = outputs[target.out]
    write_statement(written.place, written.statement, said)
    notes = list(_renamed(renamed))
    if target.kind == "ids" and said["weights_differ"]:
        notes += ["weights    differ between the samples kept, and ids do not say so: --weights writes them"]
    places = [f"{target.kind:<10} {target.out}", f"statement  {target.out.rstrip('/')}.statement.json"]
    return [*sentences(said), *notes, *places, *([f"control    {target.control}"] if target.control else [])]


def _source(
    target: Target, output: Output, manifest: Manifest, selection: Selection, renamed: Counter[str]
) -> Source:  # fmt: skip
    """What makes records of pieces. A tokenizer that does not fit is refused before anything is written.

    renamed: is filled with the names that records have a field of too, and how often.
    """
    if output.format not in TOKENS:
        field = scored_settings(manifest).text_field
        return lambda pieces: records_of(pieces, read_again(manifest, target.data), field, renamed)
    from samplewise.corpus.token_records import token_records, tokenizer_of  # transformers, which texts do without

    weighs = selection.weighs and output.format == "megatron"
    tokenizer, settings = tokenizer_of(manifest, target.tokenizer, weighs)
    return lambda pieces: token_records(pieces, read_again(manifest, target.data), tokenizer, settings, renamed)


def _renamed(counts: Counter[str]) -> Iterator[str]:
    """What became of values for which records have fields of the same name."""
    for name, count in counts.items():
        records = f"in {count:,} records, which have a field of that name"
        if name == WEIGHT:
            yield f"weights    the rule's sample_weight stands {records}: chain(column_weights(), …) multiplies the two"
        else:
            yield f"renamed    {name} is {OURS}{name} {records}"


def _write(selection: Selection, target: Target, path: str, source: Source) -> None:
    if target.kind == "ids":
        write_ids(selection, path)
    elif target.kind == "weights":
        write_weights(selection, path)
    else:
        write_texts(selection, target.output(path), source)
