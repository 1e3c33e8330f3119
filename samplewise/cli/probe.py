"""`samplewise probe` and `samplewise corrupt`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated

import typer

from samplewise.cli.shell import Debug, hush_transformers, quiet, reported, require
from samplewise.core.errors import SamplewiseError


def probe(
    config: Annotated[Path, typer.Argument(metavar="PROBE.YAML", help="model, data and output; models, rules, …")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="On top of it, such as samples=512.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Ask what the losses of a corpus mean: learnable, useful, noise, redundant, stable?"""
    quiet(debug)
    with reported(debug):
        from samplewise.config.settings_file import load_settings

        require(("transformers", "hf"), ("accelerate", "hf"), ("matplotlib", "report"), ("jinja2", "report"))
        from samplewise.evidence.probes.probe import ProbeConfig, run_probe
        from samplewise.report.probe import QUESTIONS, write_probe

        settings = load_settings(ProbeConfig, config, overrides or [])
        hush_transformers(debug)
        found = run_probe(settings)
        for name, title in QUESTIONS.items():
            print(f"\n{title}\n{found['conclusions'][name]}")
        folder = Path(settings.output).expanduser()
        print(f"\n{'results':<11}{folder / 'probe.json'}")
        for file in write_probe(folder, found):
            print(f"{'report' if file.suffix == '.html' else 'picture':<11}{file}")


def corrupt(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="A file, folder, glob or datasets name.")],
    output: Annotated[Path, typer.Argument(metavar="CORPUS.JSONL", help="The corpus with some texts spoilt.")],
    labels: Annotated[Path, typer.Argument(metavar="LABELS.JSON", help="Which were, and how: kept apart.")],
    share: Annotated[float, typer.Option(help="Of the documents.")] = 0.2,
    seed: Annotated[int, typer.Option(help="The same seed spoils the same documents in the same way.")] = 0,
    text_field: Annotated[str, typer.Option(help="The field of the text, where records have fields.")] = "text",
    debug: Debug = False,
) -> None:
    """Spoil a share of a corpus in known ways, to see what rules make of it."""
    quiet(debug)
    with reported(debug):
        from samplewise.core.replaced import write_whole
        from samplewise.data import read_documents
        from samplewise.evidence.probes.corruptions import with_corruptions

        _refuse_overwriting(Path(corpus).expanduser().resolve(), output.resolve(), labels.resolve())
        spoilt, kinds = with_corruptions(list(read_documents(corpus, text_field=text_field)), share, seed)
        rows = "".join(json.dumps({"text": document.text}) + "\n" for document in spoilt)
        write_whole(output, rows.encode())
        by_row = {row: kinds[name] for row, name in enumerate(_ids(spoilt)) if name in kinds}
        digest = hashlib.sha256(rows.encode()).hexdigest()
        told = {"seed": seed, "share": share, "sha256": digest, "rows": by_row}
        write_whole(labels, json.dumps(told, indent=1).encode())
        print(f"corpus     {output}, {len(spoilt):,} documents, {len(kinds):,} of them spoilt\nlabels     {labels}")


def _refuse_overwriting(corpus: Path, output: Path, labels: Path) -> None:
    for path, others in ((output, {corpus, labels}), (labels, {corpus})):
        if others & {path, *path.parents}:
            raise SamplewiseError(
                str(path), expected="a file that is no part of the corpus, nor the other output", got="one that is",
                remedy="Name another.",
            )  # fmt: skip


def _ids(documents: list) -> list[int]:
    from samplewise.data import document_id

    return [document_id(document.source, document.row) for document in documents]
