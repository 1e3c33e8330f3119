"""The probes against autograd, scipy and obvious definitions; one whole probe and one sweep, small."""

import json
import random
import shutil

import numpy as np
import plans
import pytest
import tiny
import torch
import world
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from samplewise.core.errors import SamplewiseError
from samplewise.data import Document, Window, document_id
from samplewise.evidence.check import check_results
from samplewise.evidence.probes.agreement import agreement
from samplewise.evidence.probes.bands import bands
from samplewise.evidence.probes.corruptions import CORRUPTIONS, corrupt, with_corruptions
from samplewise.evidence.probes.noise import auc, auc_error, weight_on_noise
from samplewise.evidence.probes.quantiles import mean_with_interval, quantile_of
from samplewise.evidence.probes.ranking import agreements, spearman
from samplewise.evidence.probes.redundancy import compressibility, repeated

TEXT = (
    "The quick brown fox jumps over the lazy dog. It was a bright cold day in April. Nothing else matters here.\n" * 4
)


def windows(lengths, seed=0) -> list[Window]:
    draw = np.random.default_rng(seed)
    return [
        Window(draw.integers(3, 37, n).astype(np.int32), i, i, "a.txt", i, 0, (0, 4 * n), 4 * n)
        for i, n in enumerate(lengths)
    ]


# ---- gradient agreement ----


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt"])
def test_closed_form_agreement_is_autograds(kind):
    model = tiny.model(kind, dtype=torch.float64, tie_word_embeddings=False).eval()
    samples, held_out = windows([9, 4, 12, 2]), windows([7, 10, 3], seed=1)

    def gradient(window: Window) -> torch.Tensor:
        ids = torch.from_numpy(window.input_ids).long()[None]
        loss = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:])
        return torch.autograd.grad(loss, model.get_output_embeddings().weight)[0]

    target = torch.stack([gradient(window) for window in held_out]).mean(0)
    found = agreement(model, samples, held_out)
    for i, window in enumerate(samples):
        own = gradient(window)
        assert found.norm[i] == pytest.approx(float(own.norm()), rel=1e-6)
        assert found.projection[i] == pytest.approx(float((own * target).sum() / target.norm()), rel=1e-6, abs=1e-9)
        assert found.cosine[i] == pytest.approx(
            float((own * target).sum() / own.norm() / target.norm()), rel=1e-6, abs=1e-9
        )
    assert all(p.grad is None for p in model.parameters())


# ---- corruptions ----


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corruptions_are_a_pure_function_and_do_something(kind):
    state = random.getstate()
    first = corrupt(TEXT, kind, 3)
    assert random.getstate() == state
    assert first == corrupt(TEXT, kind, 3)
    assert first != TEXT
    assert first.strip()
    assert corrupt("x", kind, 3)
    if kind not in ("base64", "HTML-wrapped", "repetition"):
        assert first != corrupt(TEXT, kind, 4)
    with pytest.raises(SamplewiseError, match="a known corruption"):
        corrupt(TEXT, "shuffle", 0)


def test_the_label_is_in_nothing_that_training_sees():
    documents = [Document(f"{TEXT} {i}", "a.jsonl", i) for i in range(300)]
    corrupted, labels = with_corruptions(documents, 0.2, seed=1)
    assert (corrupted, labels) == with_corruptions(documents, 0.2, seed=1)
    assert labels != with_corruptions(documents, 0.2, seed=2)[1]
    assert 40 <= len(labels) <= 80
    assert set(labels.values()) == set(CORRUPTIONS)
    for before, after in zip(documents, corrupted, strict=True):
        assert (before.source, before.row) == (after.source, after.row), "name, order and id tell nothing"
        assert (before.text != after.text) == (document_id(after.source, after.row) in labels)
        assert vars(after).keys() == {"text", "source", "row", "record"}
        assert after.record == before.record
    shorter, some = with_corruptions(documents[100:], 0.2, seed=1)
    assert shorter == corrupted[100:], "a document's fate does not depend on the others"
    assert some.items() <= labels.items()


def test_the_command_keeps_the_labels_apart(tmp_path):
    world.save_corpus(tmp_path / "corpus.jsonl")
    done = world.samplewise("corrupt", tmp_path / "corpus.jsonl", tmp_path / "out.jsonl", tmp_path / "labels.json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    labels = json.loads((tmp_path / "labels.json").read_text())["rows"]
    assert all(row.keys() == {"text"} for row in rows)
    given = [json.loads(line)["text"] for line in (tmp_path / "corpus.jsonl").read_text().splitlines()]
    changed = {str(i) for i, (a, b) in enumerate(zip(given, rows, strict=True)) if a != b["text"]}
    assert changed <= labels.keys()
    assert len(labels) > 10


@pytest.mark.parametrize("options", [
    ("in/corpus.jsonl", "in/corpus.jsonl", "labels.json"), ("in", "in/new.jsonl", "labels.json"),
    ("in", "out.jsonl", "in/labels.json"), ("in", "out.jsonl", "out.jsonl"),
    ("in", "out.jsonl", "labels.json", "--share", 2),
])  # fmt: skip
def test_the_command_replaces_nothing_that_it_reads(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    world.save_corpus(tmp_path / "in" / "corpus.jsonl")
    before = (tmp_path / "in" / "corpus.jsonl").read_bytes()
    done = world.samplewise("corrupt", *options)
    assert done.returncode == 1
    assert "not part of the corpus" in done.stderr or "at most 1" in done.stderr
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["corpus.jsonl"]
    assert (tmp_path / "in" / "corpus.jsonl").read_bytes() == before


# ---- numbers ----


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_auc_is_the_mann_whitney_statistic(noisy, clean):
    a, b = np.array(noisy, float), np.array(clean, float)
    expected = stats.mannwhitneyu(a, b).statistic / (len(a) * len(b))
    assert auc(a, b) == pytest.approx(expected)
    assert 0 <= auc_error(auc(a, b), len(a), len(b)) <= 0.71


def test_the_auc_error_is_that_of_simulations():
    draw = np.random.default_rng(0)
    found = [auc(draw.normal(0.5, 1, 32), draw.normal(0, 1, 128)) for _ in range(600)]
    assert auc_error(float(np.mean(found)), 32, 128) == pytest.approx(np.std(found), rel=0.15)


def test_weight_on_noise_is_that_of_the_rule():
    losses = np.concatenate([np.linspace(1, 2, 48), np.full(16, 5.0)])
    kinds = [None] * 48 + ["high"] * 16
    flat = weight_on_noise("uniform()", losses, kinds, step=16)
    assert flat["all"] == pytest.approx(0.25)
    assert flat["kinds"] == {"high": pytest.approx(1.0)}
    tilted = weight_on_noise("ir_dro(r=1)", losses, kinds, step=16)
    clean = np.exp(losses[:48]).sum()
    assert tilted["all"] == pytest.approx(16 * np.exp(5) / (16 * np.exp(5) + clean), abs=0.05)
    assert weight_on_noise("band(drop_top=0.25)", losses, kinds, step=64)["all"] == 0.0


@given(st.lists(st.integers(0, 6), min_size=3, max_size=30), st.randoms())
def test_rank_correlation_is_scipys(values, shuffle):
    other = values[:]
    shuffle.shuffle(other)
    if len(set(values)) > 1:
        expected = stats.spearmanr(values, other).statistic
        assert spearman(np.array(values, float), np.array(other, float)) == pytest.approx(expected, abs=1e-9)
    found = agreements({"a": np.array(values, float), "b": np.array(values, float)})[0]
    assert found["top_shared"] == 1.0


def test_quantiles_are_equal_and_intervals_scipys():
    values = np.random.default_rng(0).normal(size=101)
    sizes = np.bincount(quantile_of(values, 4))
    assert sizes.max() - sizes.min() <= 1
    assert values[quantile_of(values, 4) == 0].max() < values[quantile_of(values, 4) == 1].min()
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_with_interval(values)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))


def test_redundancy_sees_repetition():
    noise = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz0123456789+/", k=2000))
    found = compressibility([TEXT * 20, noise])
    assert found[0] > 0.9
    assert found[1] < 0.4
    copies = [Document(TEXT, "a", 0), Document("another text of five words", "a", 1), Document(TEXT.upper(), "a", 2)]
    assert repeated(copies).tolist() == [False, False, True]


def test_bands_show_texts_of_their_own_at_even_ranks_and_where_they_come_from():
    draw = np.random.default_rng(0)
    losses = draw.permutation(40).astype(float)
    texts, groups = [f"loss {loss}" for loss in losses], ["even" if loss % 2 == 0 else "odd" for loss in losses]
    found = bands(losses, quantile_of(losses, 4), texts, groups, 5)
    for q, band in enumerate(found):
        assert (band["samples"], band["low"], band["high"]) == (10, 10 * q, 10 * q + 9)
        assert band["groups"] == {"even": 0.5, "odd": 0.5}
        assert [each["loss"] for each in band["examples"]] == [10 * q + k for k in (1, 3, 5, 7, 9)]
        assert all(each["opening"] == f"loss {each['loss']}" for each in band["examples"])
    assert [len(band["examples"]) for band in bands(losses, quantile_of(losses, 4), texts, groups, 99)] == [10] * 4
    assert not any(band["examples"] for band in bands(losses, quantile_of(losses, 4), texts, groups, 0))


# ---- the commands ----


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    world.save_model(folder / "model")
    world.save_corpus(folder / "corpus.jsonl")
    config = {
        "model": str(folder / "model"), "output": str(folder / "out"), "models": {"a copy": str(folder / "model")},
        "data": {"path": str(folder / "corpus.jsonl"), "max_length": 32, "min_tokens": 4},
        "samples": 64, "held_out": 16, "quantiles": 2, "steps": 2, "batch": 8, "noisy": 8, "step": 16,
        "learning_rate": 1e-2, "kinds": ["shuffled words", "repetition", "words left out"],
    }  # fmt: skip
    (folder / "probe.yaml").write_text(yaml.safe_dump(config))
    done = world.samplewise("probe", folder / "probe.yaml")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_probe_answers_five_questions_with_a_figure_and_a_paragraph_each(probed):
    folder, said = probed
    found = json.loads((folder / "out" / "probe.json").read_text())
    assert set(found["conclusions"]) == {"learnability", "agreement", "noise", "redundancy", "ranking"}
    for name, text in found["conclusions"].items():
        assert text in said
        assert (folder / "out" / f"fig-{name}.svg").stat().st_size > 1000
    assert len(found["learnability"]["quantiles"]) == 2
    corpus = " ".join((folder / "corpus.jsonl").read_text().split())
    for band in found["quantiles"]:
        assert band["groups"] == {"corpus.jsonl": 1.0}
        losses = [each["loss"] for each in band["examples"]]
        assert len(losses) == 3
        assert band["low"] < losses[0] < losses[1] < losses[2] < band["high"]
        assert all(each["opening"].rstrip("…")[:8] in corpus for each in band["examples"])
    assert found["ranking"][0]["spearman"] == pytest.approx(1.0)
    assert found["noise"]["weights"]["uniform()"]["all"] == pytest.approx(
        found["noise"]["weights"]["uniform()"]["given"], abs=0.02
    )
    assert (folder / "out" / "report.html").read_text().startswith("<!doctype html>")


def test_the_same_probe_gives_the_same_numbers(probed):
    folder, _ = probed
    shutil.copytree(folder / "out", folder / "first", dirs_exist_ok=True)
    assert world.samplewise("probe", folder / "probe.yaml").returncode == 0
    assert (folder / "out" / "probe.json").read_bytes() == (folder / "first" / "probe.json").read_bytes()


def test_a_sweep_draws_its_sensitivity(tmp_path):
    path = plans.write_plan(
        tmp_path, arms={}, sweep={"rule": "ir_dro(r={r})", "values": {"r": [0.5, 4]}}, seeds=[0], evaluations=0,
        budget={"steps": 2},
    )  # fmt: skip
    done = world.samplewise("sweep", path)
    assert done.returncode == 0, done.stderr
    assert {each.name for each in (tmp_path / "out").glob("fig-*")} == {"fig-differences.svg", "fig-sensitivity.svg"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Sensitivity" in page
    assert "gradient norm" in page
    assert {row["arm"] for row in check_results(tmp_path / "out")["differences"]} == {"r=0.5", "r=4"}
    none = world.samplewise("sweep", plans.write_plan(tmp_path, output=str(tmp_path / "other")))
    assert "a rule and values" in none.stderr
