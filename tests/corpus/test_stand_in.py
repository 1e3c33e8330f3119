"""A small model's losses for a large one's: the rank correlation on a sample that both scored, and where it shows."""

import dataclasses
import json

import numpy as np
import pytest
import world
from fake_scores import write_fake_scores
from scipy.stats import rankdata, spearmanr
from scoring import SMALL, score, table

from samplewise.core.errors import SamplewiseError
from samplewise.corpus import column, open_scores
from samplewise.corpus.manifest import read_manifest, write_manifest
from samplewise.corpus.place import Place
from samplewise.corpus.stand_in import stand_ins


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return world.save_model(tmp_path_factory.mktemp("other") / "gpt2", "opt")


def said_by_a_model(folder, name: str, **more: object) -> None:
    place = Place(folder)
    facts = {"model": "m", **more}
    manifest = dataclasses.replace(read_manifest(place, f"columns/{name}"), fingerprints=facts)
    write_manifest(place, manifest, f"columns/{name}")


def test_the_correlation_is_spearmans_with_ties(tmp_path):
    write_fake_scores(tmp_path / "s", 900, added=("large", "importance"))
    said_by_a_model(tmp_path / "s", "large")
    scores = open_scores(tmp_path / "s")
    with scores.connect() as connection:
        (found,) = stand_ins(connection, scores)
    small, large = column(scores)[1].astype(float), column(scores, "large")[1].astype(float)
    assert found.spearman == pytest.approx(spearmanr(small, large).statistic)
    assert (found.key, found.name, found.windows) == ("loss", "large", 900)
    assert found.low < found.spearman < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * (1 - found.spearman**2) * (1.5 / 897) ** 0.5, rel=0.1)
    top = rankdata(large) > 810
    assert found.hardest == pytest.approx((rankdata(small)[top] > 810).mean())
    low = rankdata(large) <= 90
    assert found.easiest == pytest.approx((rankdata(small)[low] <= 90).mean())


def test_few_pairs_say_nothing(tmp_path):
    write_fake_scores(tmp_path / "s", 90, added=("large",))
    said_by_a_model(tmp_path / "s", "large")
    scores = open_scores(tmp_path / "s")
    with scores.connect() as connection:
        assert stand_ins(connection, scores) == []


@pytest.fixture(scope="module")
def sampled(tiny_model, other, corpus, tmp_path_factory):
    """The scores of a small model, and of a sample of them those of another."""
    out = tmp_path_factory.mktemp("sampled") / "out"
    score(tiny_model, corpus, out)
    score(other, corpus, out, column="whole")
    done = world.samplewise(
        "score", "--model", other, "--data", corpus, "--out", out, "--as", "large", "--sample", 120, "--dtype",
        "float32", *(f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


def test_a_sample_has_the_losses_of_the_whole_and_the_rest_none(sampled):
    whole, large = column(sampled, "whole")[1], column(sampled, "large")[1]
    drawn = np.isfinite(large)
    assert 90 < drawn.sum() < 150 < len(whole)
    np.testing.assert_allclose(large[drawn], whole[drawn], atol=1e-5)
    manifest = open_scores(sampled).added["large"]
    assert manifest.fingerprints["sample"] == 120
    counts = np.array(table(sampled)["n_tokens"].to_pylist())
    assert manifest.tokens == counts[drawn].sum()


def test_select_and_report_say_how_well_it_stands_in(sampled, corpus, tmp_path):
    done = world.samplewise("select", sampled, "--rule", "band(drop_top=0.1)", "--ids", "--out", tmp_path / "ids.txt")
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("stands in"))
    assert "loss for large: Spearman " in line
    said = json.loads((tmp_path / "ids.txt.statement.json").read_text())
    assert len(said["stands_in"]) == 1, "a column of all windows is compared in the report, not in every selection"
    done = world.samplewise("report", sampled, "--out", tmp_path / "r.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "r.html").read_text()
    assert "Other models" in page
    assert "hardest tenth shared" in page


def test_a_sample_of_few_windows_or_without_scores_is_refused(tiny_model, other, sampled, corpus, tmp_path):
    command = ["score", "--model", tiny_model, "--data", corpus, "--dtype", "float32"]
    done = world.samplewise(*command, "--out", tmp_path / "new", "--sample", 120)
    assert done.returncode == 1
    assert "--sample: expected --as NAME" in done.stderr
    done = world.samplewise(*command, "--out", sampled, "--as", "few", "--sample", 20)
    assert "--sample: expected at least 100 windows, got 20" in done.stderr
    with pytest.raises(SamplewiseError, match="sample was 120 and is now None"):
        score(other, corpus, sampled, column="large")
