"""`samplewise probe` and `samplewise corrupt`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated

import typer

from samplewise.cli.shell import Debug, Json, figures, hush_transformers, quiet, reported, require, write_figures
from samplewise.core.errors import SamplewiseError
from samplewise.core.paths import expanded, without_links


def probe(
    config: Annotated[
        Path, typer.Argument(metavar="PROBE.YAML", help="The probe file: model, data, output, models, rules, …")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Values that replace those of the file, such as samples=512."),
    ] = None,
    json_file: Json = None,
    debug: Debug = False,
) -> None:
    """Measure what the losses of a corpus mean: learnable, useful, noise, redundant or stable text."""
    quiet(debug)
    with reported(debug), figures(json_file):
        from samplewise.config.settings_file import load_settings

        require(("transformers", "hf"), ("accelerate", "hf"), ("matplotlib", "report"), ("jinja2", "report"))
        from samplewise.evidence.probes.config import ProbeConfig

        settings = load_settings(ProbeConfig, config, overrides or [])
        from samplewise.evidence.probes.probe import run_probe
        from samplewise.report.probe import QUESTIONS, write_probe

        hush_transformers(debug)
        found = run_probe(settings)
        for name, title in QUESTIONS.items():
            print(f"\n{title}\n{found['conclusions'][name]}")
        folder = expanded(settings.output)
        print(f"\n{'results':<11}{folder / 'probe.json'}")
        for file in write_probe(folder, found):
            print(f"{'report' if file.suffix == '.html' else 'picture':<11}{file}")
        write_figures(json_file, found)


def corrupt(
    corpus: Annotated[
        str, typer.Argument(metavar="CORPUS", help="The corpus: a file, folder, glob or `datasets` name.")
    ],
    output: Annotated[
        Path, typer.Argument(metavar="CORPUS.JSONL", help="The file to write the corpus with corrupted texts to.")
    ],
    labels: Annotated[
        Path,
        typer.Argument(metavar="LABELS.JSON", help="The file to write the labels to: which texts, which corruption."),
    ],
    share: Annotated[float, typer.Option(help="The share of the documents to corrupt.")] = 0.2,
    seed: Annotated[int, typer.Option(help="The seed; with the same one, the same documents are corrupted alike.")] = 0,
    text_field: Annotated[str, typer.Option(help="The field that holds the text.")] = "text",
    debug: Debug = False,
) -> None:
    """Corrupt a share of a corpus in known ways, to measure how rules treat noise."""
    quiet(debug)
    with reported(debug):
        from samplewise.core.replaced import write_whole
        from samplewise.data import read_documents
        from samplewise.evidence.probes.corruptions import with_corruptions

        _refuse_overwriting(*(without_links(each) for each in (expanded(corpus), output, labels)))
        corrupted, kinds = with_corruptions(list(read_documents(corpus, text_field=text_field)), share, seed)
        rows = "".join(json.dumps({"text": document.text}) + "\n" for document in corrupted)
        write_whole(output, rows.encode())
        by_row = {row: kinds[name] for row, name in enumerate(_ids(corrupted)) if name in kinds}
        digest = hashlib.sha256(rows.encode()).hexdigest()
        told = {"seed": seed, "share": share, "sha256": digest, "rows": by_row}
        write_whole(labels, json.dumps(told, indent=1).encode())
        print(
            f"corpus     {output}, {len(corrupted):,} documents, {len(kinds):,} of them corrupted\nlabels     {labels}"
        )


def _refuse_overwriting(corpus: Path, output: Path, labels: Path) -> None:
    for path, others in ((output, {corpus, labels}), (labels, {corpus})):
        if others & {path, *path.parents}:
            raise SamplewiseError(
                str(path), expected="a file that is not part of the corpus and not the other output", got="one that is",
                remedy="Name another file.",
            )  # fmt: skip


def _ids(documents: list) -> list[int]:
    from samplewise.data import document_id

    return [document_id(document.source, document.row) for document in documents]
