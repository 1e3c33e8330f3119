"""The whole of `samplewise select`: choose, write the files and the statement, and report in a few lines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.amounts import memory_bytes
from samplewise.corpus.guard import inputs, refuse_inputs
from samplewise.corpus.manifest import Manifest
from samplewise.corpus.output import IDS, TEXTS, WEIGHTS, suffix_of, write_ids, write_texts, write_weights
from samplewise.corpus.reread import read_again
from samplewise.corpus.select import Choice, Selection, select
from samplewise.corpus.statement import sentences, statement, write_statement
from samplewise.corpus.store import open_scores

KINDS = {"ids": IDS, "weights": WEIGHTS, "texts": TEXTS}


@dataclass(frozen=True)
class Target:
    """What is written where. control: a random selection of the same size, or None. data: the corpus, if it has moved.

    The statement lies beside `out`, named after it.
    """

    kind: Literal["ids", "weights", "texts"]
    out: Path
    control: Path | None = None
    data: str | None = None

    @property
    def statement(self) -> Path:
        """Where the statement is written."""
        return self.out.with_name(f"{self.out.name}.statement.json")


def run_select(folder: str, choice: Choice, target: Target, *, memory: str = "2GB", verify: bool = True) -> list[str]:
    """Carry it out; the lines that a person reads. Nothing is written before all arguments are known to be good.

    verify: as in `open_scores`.
    """
    memory_bytes(memory)
    scores = open_scores(folder, verify=verify)
    if target.control is not None and target.control.resolve() == target.out.resolve():
        raise SamplewiseError(
            "--control", expected="another file than --out", got=str(target.out), remedy="Name another file."
        )
    guarded = inputs(scores.place, target.data or scores.manifest.made.get("data", ""))
    for path in filter(None, (target.out, target.control)):
        suffix_of(path, KINDS[target.kind])
        refuse_inputs(str(path), path, guarded)
        if not path.parent.is_dir():
            raise SamplewiseError(
                str(path),
                expected="a file in a folder that exists",
                got=f"no folder {path.parent}",
                remedy="Create the folder first.",
            )
    with select(scores, choice, memory=memory) as selection:
        control = selection.control() if target.control else None
        said = statement(scores, selection, control)
        for chosen, path in ((selection, target.out), (control, target.control)):
            if chosen and path:
                _write(chosen, target, path, scores.manifest)
    write_statement(target.statement, said)
    notes = []
    if target.kind == "ids" and said["weights_differ"]:
        notes = ["weights    differ between the samples kept, and ids do not say so: --weights writes them"]
    places = [f"{target.kind:<10} {target.out}", f"statement  {target.statement}"]
    return [*sentences(said), *notes, *places, *([f"control    {target.control}"] if target.control else [])]


def _write(selection: Selection, target: Target, path: Path, manifest: Manifest) -> None:
    if target.kind == "ids":
        write_ids(selection, path)
    elif target.kind == "weights":
        write_weights(selection, path)
    else:
        write_texts(selection, path, read_again(manifest, target.data))
