"""Windows of a model whose context is shorter than the default: they follow the model, and messages what was given."""

import pytest
import world
from scoring import score, table

from samplewise.core.errors import SamplewiseError
from samplewise.corpus import open_scores


def settings_of(folder) -> dict:
    return open_scores(folder).manifest.fingerprints["settings"]


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory):
    return world.save_corpus(tmp_path_factory.mktemp("long") / "corpus.jsonl", 8, least=100, most=400)


def test_windows_are_as_long_as_the_model_reads(tiny_model, long_corpus, tmp_path):
    score(tiny_model, long_corpus, tmp_path / "own", max_length=None)
    score(tiny_model, long_corpus, tmp_path / "given", max_length=128)
    assert settings_of(tmp_path / "own")["max_length"] == 128
    assert table(tmp_path / "own").equals(table(tmp_path / "given"))
    score(tiny_model, long_corpus, tmp_path / "own", max_length=None)  # the same command again
    score(tiny_model, long_corpus, tmp_path / "stride", max_length=None, stride=29)
    assert settings_of(tmp_path / "stride")["max_length"] == 100


@pytest.mark.parametrize(
    ("given", "named", "unnamed"),
    [
        ({"max_length": 200}, "--max-length: expected at most the model's context, 128, got 200", "--stride"),
        ({"max_length": 100, "stride": 40}, "--max-length: expected with --stride at most", "512"),
        ({"max_length": None, "stride": 128}, "--stride: expected with --stride at most", "--max-length"),
    ],
)
def test_what_does_not_fit_is_named_as_it_was_given(tiny_model, long_corpus, tmp_path, given, named, unnamed):
    with pytest.raises(SamplewiseError) as refused:
        score(tiny_model, long_corpus, tmp_path / "out", **given)
    assert named in str(refused.value)
    assert unnamed not in str(refused.value)
    assert not (tmp_path / "out").exists()
