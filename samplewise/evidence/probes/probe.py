"""The five questions put to a corpus and a model, and the answers in one JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from samplewise.core.checkpoint import write_bytes
from samplewise.core.errors import SamplewiseError
from samplewise.core.paths import expanded
from samplewise.data import Document, Window, cut_windows, document_id, read_documents
from samplewise.data.near_duplicates import fingerprint
from samplewise.evidence.evaluate import evaluate
from samplewise.evidence.groups import group_of
from samplewise.evidence.initial_model import InitialModel, open_initial_model
from samplewise.evidence.probes.agreement import agreement
from samplewise.evidence.probes.bands import bands
from samplewise.evidence.probes.conclusions import conclusions
from samplewise.evidence.probes.config import ProbeConfig
from samplewise.evidence.probes.corruptions import corrupt
from samplewise.evidence.probes.learnability import Short, learnability
from samplewise.evidence.probes.noise import by_kind, weight_on_noise
from samplewise.evidence.probes.quantiles import by_quantile, quantile_of
from samplewise.evidence.probes.ranking import agreements
from samplewise.evidence.probes.redundancy import compressibility, repeated

Say = Callable[[str], object]


def run_probe(config: ProbeConfig, say: Say = print) -> dict[str, Any]:
    """Answer the questions, write output/probe.json, and return its contents."""
    initial = open_initial_model(config.model)
    say(f"model      {initial.text}")
    documents = _documents(config)
    samples, held_out = _windows(config, documents, initial)
    say(f"samples    {len(samples)}, held out {len(held_out)}, of {len(documents)} documents")
    model = initial.fresh(config.seed)
    losses = _losses(model, samples, initial)
    quantile = quantile_of(losses, config.quantiles)
    texts = {document_id(d.source, d.row): d for d in documents}
    own = [texts[window.doc_id] for window in samples]
    say("gradient agreement")
    agreed = agreement(model, samples, held_out)
    found: dict[str, Any] = {
        "model": initial.text,
        "config": asdict(config),
        "quantiles": bands(
            losses, quantile, [_text(initial, window) for window in samples],
            [group_of(window.source) for window in samples], config.examples,
        ),
        "agreement": {name: by_quantile(getattr(agreed, name), quantile) for name in ("cosine", "projection", "norm")},
        "noise": _noise(config, initial, model, own, losses, say),
        "redundancy": {
            "compressibility": by_quantile(compressibility([d.text for d in own]), quantile),
            "repeated": by_quantile(repeated_among(documents, samples), quantile),
        },
        "learnability": learnability(
            initial, samples, held_out, quantile,
            Short(config.steps, config.batch, config.learning_rate, config.seed), say,
        ),
        "ranking": _ranking(config, initial, samples, losses, say),
    }  # fmt: skip
    found["conclusions"] = conclusions(found)
    folder = expanded(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "probe.json", json.dumps(found, indent=1, allow_nan=False).encode())
    return found


def _documents(config: ProbeConfig) -> list[Document]:
    """The documents of the corpus, ordered by a hash of their texts. Duplicates stay, to measure redundancy."""
    data = config.data
    read = read_documents(
        data.path, text_field=data.text_field, on_error=data.on_error, config=data.name, split=data.split
    )
    return sorted(read, key=lambda document: fingerprint(document.text))


def _windows(
    config: ProbeConfig, documents: Sequence[Document], initial: InitialModel
) -> tuple[list[Window], list[Window]]:
    """The first windows of documents: the held-out ones of texts that no sample has."""
    known = {document_id(d.source, d.row): fingerprint(d.text) for d in documents}
    firsts = _first_windows(documents, config, initial)
    held_out, samples, apart = [], [], set()
    for window in firsts:
        if len(held_out) < config.held_out:
            held_out.append(window)
            apart.add(known[window.doc_id])
        elif len(samples) < config.samples and known[window.doc_id] not in apart:
            samples.append(window)
    if len(samples) < 8 * config.quantiles:
        raise SamplewiseError(
            "data", expected=f"at least {8 * config.quantiles} documents beside the {config.held_out} held out",
            got=len(samples), remedy="Give more text, or lower quantiles or held_out.",
        )  # fmt: skip
    return samples, held_out


def _first_windows(documents: Sequence[Document], config: ProbeConfig, initial: InitialModel) -> list[Window]:
    data = config.data
    cut = cut_windows(
        documents, initial.tokenizer, max_length=data.max_length, min_tokens=data.min_tokens, context=initial.context
    )
    return [window for window in cut if window.index == 0]


def _losses(model: Any, windows: Sequence[Window], initial: InitialModel) -> np.ndarray:
    autocast = torch.bfloat16 if initial.autocast else None
    return evaluate(model, windows, pad_token_id=initial.tokenizer.pad_token_id, autocast=autocast).losses


def repeated_among(documents: Sequence[Document], samples: Sequence[Window]) -> np.ndarray:
    """[N] 1.0 where a sample's document repeats another of the corpus."""
    again = dict(zip((document_id(d.source, d.row) for d in documents), repeated(documents), strict=True))
    return np.array([float(again[window.doc_id]) for window in samples])


def _noise(
    config: ProbeConfig, initial: InitialModel, model: Any, own: Sequence[Document], losses: np.ndarray, say: Say
) -> dict[str, Any]:
    clean, corrupted, labels = losses, [], []
    share = max(1, round(len(clean) / 4 / max(1, len(config.kinds))))  # of each kind: a fifth of all is noise
    found: dict[str, np.ndarray] = {}
    for kind in config.kinds:
        say(f"noise: {kind}")
        texts = [replace(d, text=corrupt(d.text, kind, config.seed)) for d in own[: config.noisy]]
        windows = _first_windows(texts, config, initial)
        if len(windows) > 1:
            found[kind] = _losses(model, windows, initial)
            corrupted.append(found[kind][:share])
            labels += [kind] * len(corrupted[-1])
    everything = np.concatenate([clean, *corrupted])
    kinds = [None] * len(clean) + labels
    weights = {
        rule: weight_on_noise(rule, everything, kinds, step=config.step, seed=config.seed) for rule in config.rules
    }
    return {"kinds": by_kind(found, clean), "weights": weights, "clean": float(clean.mean())}


def _ranking(
    config: ProbeConfig, initial: InitialModel, samples: Sequence[Window], losses: np.ndarray, say: Say
) -> list[dict[str, Any]]:
    """Other models read the same first words; where their tokens differ, their windows are of other lengths."""
    by_model = {"this model": losses}
    texts = [_text(initial, window) for window in samples]
    for name, path in config.models.items():
        say(f"ranking: {name}")
        other = open_initial_model(path)
        documents = [Document(text, "sample", i) for i, text in enumerate(texts)]
        windows = _first_windows(documents, replace(config, data=replace(config.data, min_tokens=1)), other)
        if len(windows) == len(samples):
            by_model[name] = _losses(other.fresh(config.seed), windows, other)
    return agreements(by_model)


def _text(initial: InitialModel, window: Window) -> str:
    return initial.tokenizer.decode(window.input_ids[1:], skip_special_tokens=True)
