"""What repeats within the training text, and what repeats what is held out."""

import json
import random

import pytest
import transformers
import world

from samplewise.config import DataConfig
from samplewise.data import deduplicate
from samplewise.data.near_duplicates import without_copies
from samplewise.data.read import read_documents
from samplewise.evidence.run.prepare import prepare


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return transformers.AutoTokenizer.from_pretrained(world.save_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """40 texts, each 1 to 4 times, and near-duplicates of half of them, in no order."""
    folder, draw = tmp_path_factory.mktemp("corpus"), random.Random(0)
    texts = [" ".join(draw.choices(world.WORDS, k=60)) for _ in range(40)]
    rows = [each for text in texts for each in [text] * draw.randint(1, 4)] + [f"{text} w0 w1" for text in texts[::2]]
    draw.shuffle(rows)
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    (folder / "held.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:4] + texts[:2]))
    return folder


@pytest.mark.parametrize("elsewhere", [False, True])
def test_repetition_may_stay_in_the_training_text_alone(corpus, tokenizer, elsewhere):
    path = str(corpus / "corpus.jsonl")
    given = DataConfig(
        path, max_length=128, held_out=0.3, held_out_from=str(corpus / "held.jsonl") if elsewhere else None
    )
    removed = prepare(given, tokenizer)
    kept = prepare(DataConfig(**{**vars(given), "duplicates": "keep"}), tokenizer)
    assert [window.id for window in kept.held_out] == [window.id for window in removed.held_out]
    ids = [row["sample_id"] for row in kept.train]
    assert len(set(ids)) == len(ids), "copies are samples of their own"
    assert {row["sample_id"] for row in removed.train} < set(ids)

    everything = {(d.source, d.row): d for d in read_documents(path)}
    trained = [everything[w.source, w.row] for w in kept.train.windows]
    held = [d for d in read_documents(given.held_out_from or path) if (d.source, d.row) in places(kept.held_out)]
    assert len(deduplicate(held).kept) == len(held) > 2
    assert without_copies(trained, held).kept == trained
    assert len(deduplicate(trained).kept) == len(removed.train)
    left = [d for d in everything.values() if d not in trained and d not in held]
    assert kept.counts["duplicates"]["kept"] == len(trained) - len(removed.train) > 20
    if elsewhere:
        assert without_copies(left, held).kept == [], "nothing else is left out"
        assert kept.counts["duplicates"]["left_out"] == len(left) + 2
    assert kept.lines[1].startswith(f"duplicates {kept.counts['duplicates']['kept']} within the training text kept, ")


def places(windows) -> set[tuple[str, int]]:
    return {(window.source, window.row) for window in windows}
