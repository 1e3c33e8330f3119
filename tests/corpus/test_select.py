"""A selection keeps what a plain reference keeps, for every kind of choice; the same in memory and out of core."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from fake_scores import write_fake_scores
from hypothesis import given, settings
from hypothesis import strategies as st

from samplewise.core.errors import SamplewiseError
from samplewise.core.samples import Samples
from samplewise.corpus import open_scores
from samplewise.corpus.amounts import amount
from samplewise.corpus.output import write_ids, write_weights
from samplewise.corpus.select import Choice, select
from samplewise.corpus.statement import sentences, statement
from samplewise.corpus.weigh import weigh
from samplewise.engine.plan import plan_step
from samplewise.rules import parse_rule
from samplewise.rules.base import uniforms

ROWS = 2000
RANKED = [
    "band(drop_top=0.1, drop_bottom=0.3)",
    "band(drop_top=0.29)",
    "top_k(0.5)",
    "mid_ranking(frac=0.3, portion=1)",
    "random_keep(0.2, seed=5)",
    "chain(band(drop_top=0.1), random_keep(0.5), top_k(0.3))",
    "uniform()",
]


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    return open_scores(write_fake_scores(folder, ROWS, shard_rows=700, groups=4, completion=True, added=("reference",)))


@pytest.fixture(scope="module")
def table(scores):
    """The same scores as numpy columns."""
    found = pq.ParquetDataset([scores.place.inside(s.name) for s in scores.manifest.shards]).read()
    added = pq.ParquetDataset(
        [scores.place.inside(f"columns/reference/{s.name}") for s in scores.manifest.shards]
    ).read()
    assert found["id"].equals(added["id"])
    columns = {name: found[name].to_numpy() for name in found.column_names} | {
        "reference": added["reference"].to_numpy()
    }
    return {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in columns.items()}


def kept(scores, choice: Choice) -> set[int]:
    with select(scores, choice) as chosen:
        return set(chosen.connection.sql(f"SELECT id FROM {chosen.view} WHERE kept").fetchnumpy()["id"].tolist())


def by_rule(rule: str, table, where=None, key=None) -> set[int]:
    """What the rule itself keeps of those rows, as of one step."""
    where = np.ones(len(table["id"]), bool) if where is None else where
    key = table["loss"] if key is None else key
    samples = Samples(
        *(torch.tensor(values[where]) for values in (key, table["n_tokens"].astype(np.int64), table["id"]))
    )
    parsed = parse_rule(rule)
    weights = plan_step(parsed, samples, parsed.init()).weights.numpy()
    return set(table["id"][where][weights > 0].tolist())


@pytest.mark.parametrize("rule", RANKED)
def test_the_corpus_is_one_step_for_a_rule(scores, table, rule):
    assert kept(scores, Choice(parse_rule(rule))) == by_rule(rule, table)


@pytest.mark.parametrize("rule", RANKED)
def test_ranks_and_memory_agree(scores, rule):
    parsed = parse_rule(rule)
    with select(scores, Choice(parsed)) as chosen, select(scores, Choice()) as other:
        weigh(other, parsed, 10**9)
        counted, weighed = (c.connection.sql(f"SELECT id, weight FROM {c.view} WHERE kept ORDER BY id").fetchnumpy()
                            for c in (chosen, other))  # fmt: skip
    assert counted["id"].tolist() == weighed["id"].tolist()
    assert counted["weight"] == pytest.approx(weighed["weight"])


@pytest.mark.parametrize("rule", ["top_k(0.25)", "chain(top_k(0.25), ir_dro(r=1.0))", "cvar(0.25)"])
@pytest.mark.parametrize("within", ["source", "group", "length", "window"])
def test_each_part_is_a_step_of_its_own(scores, table, rule, within):
    parts = np.floor(np.log2(table["n_tokens"])) if within == "length" else table[within]
    large = [part for part in set(parts) if (parts == part).sum() >= 4 or rule == "cvar(0.25)"]
    expected = set().union(*(by_rule(rule, table, parts == part) for part in large))
    if len(large) < len(set(parts)) and not parse_rule(rule).ranks:
        with pytest.raises(SamplewiseError, match="in the part"):
            kept(scores, Choice(parse_rule(rule), within=within))
    else:
        assert kept(scores, Choice(parse_rule(rule), within=within)) == expected


def test_a_corpus_has_no_epochs(scores):
    with pytest.raises(SamplewiseError, match="step by step, over a corpus"):
        kept(scores, Choice(parse_rule('infobatch(scope="epoch")')))


def test_parts_too_small_for_a_rule_are_told(scores, table):
    with select(scores, Choice(parse_rule("top_k(0.01)"), within="length")) as chosen:
        sizes = np.bincount(np.floor(np.log2(table["n_tokens"])).astype(int))
        assert chosen.too_small == {part: n for part, n in enumerate(sizes.tolist()) if 0 < n < 100}
        assert any("too small" in line for line in sentences(statement(scores, chosen)))


def test_excess_is_the_loss_less_the_reference(scores, table):
    excess = table["loss"] - table["reference"]
    rule = "band(drop_top=0.1, drop_bottom=0.3)"
    assert kept(scores, Choice(parse_rule(rule), by="excess")) == by_rule(rule, table, key=excess)
    with select(scores, Choice(parse_rule(f'by("excess", {rule})'))) as chosen:  # the rule's own form of it
        names = chosen.connection.sql(f"SELECT id FROM {chosen.view} WHERE kept").fetchnumpy()["id"]
    assert set(names.tolist()) == by_rule(rule, table, key=excess)


def test_thresholds_come_before_the_rule(scores, table):
    inside = (table["loss"] >= 2) & (table["loss"] <= 4)
    choice = Choice(parse_rule("top_k(0.5)"), above=2, below=4)
    assert kept(scores, choice) == by_rule("top_k(0.5)", table, inside)
    assert kept(scores, Choice(below=4)) == set(table["id"][table["loss"] <= 4].tolist())


@pytest.mark.parametrize("by", ["loss_q90", "completion_loss", "reference"])
def test_any_column_can_rank(scores, table, by):
    assert kept(scores, Choice(parse_rule("top_k(0.5)"), by=by)) == by_rule("top_k(0.5)", table, key=table[by])


@settings(deadline=None, max_examples=15)
@given(share=st.floats(0.01, 1.2), take=st.sampled_from(["highest", "lowest", "random"]), seed=st.integers(0, 99))
def test_a_budget_is_spent_in_order_until_the_next_would_exceed_it(scores, table, share, take, seed):
    budget = int(share * table["n_tokens"].sum())
    key = {"highest": -table["loss"], "lowest": table["loss"],
           "random": uniforms(torch.tensor(table["id"]), 0, seed).numpy()}[take]  # fmt: skip
    order = np.lexsort((table["id"], key))
    fits = np.cumsum(table["n_tokens"][order]) <= budget
    assert kept(scores, Choice(tokens=budget, take=take, seed=seed)) == set(table["id"][order][fits].tolist())


def test_a_budget_is_shared_out_over_parts(scores, table):
    budget = int(table["n_tokens"].sum()) // 3
    with select(scores, Choice(tokens=budget, within="group")) as chosen:
        totals = chosen.totals()
    for part, own in totals.items():
        assert own.tokens / 3 - 512 < own.kept_tokens <= own.tokens / 3, part
    assert sum(own.kept_tokens for own in totals.values()) <= budget


def test_documents_are_ranked_by_their_tokens_mean(scores, table):
    ids, place = np.unique(table["doc_id"], return_inverse=True)
    tokens = np.bincount(place, table["n_tokens"])
    mean = np.bincount(place, table["n_tokens"] * table["loss"]) / tokens
    rule = parse_rule("band(drop_top=0.1, drop_bottom=0.3)")
    samples = Samples(torch.tensor(mean), torch.tensor(tokens).long(), torch.tensor(ids))
    expected = set(ids[plan_step(rule, samples, rule.init()).weights.numpy() > 0].tolist())
    assert kept(scores, Choice(rule, unit="document")) == expected


@pytest.mark.parametrize("choice", [
    Choice(parse_rule("band(drop_top=0.3)")), Choice(parse_rule("band(drop_top=0.3)"), within="source"),
    Choice(parse_rule("random_keep(0.3)")), Choice(above=2.5, below=4, unit="document"),
])  # fmt: skip
def test_a_control_has_the_same_size_and_another_content(scores, choice):
    with select(scores, choice) as chosen:
        control = chosen.control()
        first, second = chosen.totals(), control.totals()
        ids = [set(c.connection.sql(f"SELECT id FROM {c.view} WHERE kept").fetchnumpy()["id"].tolist())
               for c in (chosen, control)]  # fmt: skip
    assert {part: own.kept for part, own in first.items()} == {part: own.kept for part, own in second.items()}
    share = len(ids[0]) / sum(own.samples for own in first.values())
    assert len(ids[0] & ids[1]) / len(ids[0]) == pytest.approx(share, abs=0.08), "independent of the selection"


def test_a_part_of_which_a_threshold_keeps_nothing_is_still_counted(tmp_path):
    """It has no cut to join: in the files and the statement its samples stand with weight 0."""
    folder = tmp_path / "scores"
    write_fake_scores(folder, 400, shard_rows=400, text=False)
    found = pq.read_table(folder / "shard-00000.parquet")
    source = np.array(found["source"].to_pylist())
    loss = np.where(source == "part-1.jsonl", 0.01, found["loss"].to_numpy() + 1).astype(np.float32)
    scores = open_scores(folder)
    pq.write_table(found.set_column(found.column_names.index("loss"), "loss", [loss]), folder / "shard-00000.parquet")
    for rule in ("top_k(0.5)", "random_keep(0.5)", "ir_dro(r=1)"):
        with select(scores, Choice(parse_rule(rule), above=0.5, within="source")) as chosen:
            totals = chosen.totals()
            write_weights(chosen, tmp_path / "weights.parquet")
        assert {part: own.samples for part, own in totals.items()} == {p: (source == p).sum() for p in set(source)}
        assert totals["part-1.jsonl"].kept == 0 < totals["part-0.jsonl"].kept
        weights = pq.read_table(tmp_path / "weights.parquet").to_pandas()
        assert len(weights) == 400
        assert (weights["sample_weight"][weights["source"] == "part-1.jsonl"] == 0).all()


def test_a_control_under_a_budget_has_as_many_tokens(scores, table):
    with select(scores, Choice(tokens=100_000)) as chosen:
        tokens = chosen.totals()[0].kept_tokens
        control = chosen.control().totals()[0].kept_tokens
    assert 99_000 < tokens <= 100_000
    assert tokens - 511 < control <= tokens


def test_ids_and_weights_are_files_that_say_the_same(scores, table, tmp_path):
    rule = "chain(band(drop_top=0.1), ir_dro(r=1.0))"
    with select(scores, Choice(parse_rule(rule))) as chosen:
        write_ids(chosen, tmp_path / "ids.parquet")
        write_ids(chosen, tmp_path / "ids.txt")
        write_weights(chosen, tmp_path / "weights.parquet")
    ids = pq.read_table(tmp_path / "ids.parquet")["id"].to_pylist()
    assert ids == [int(line) for line in (tmp_path / "ids.txt").read_text().split()]
    weights = pq.read_table(tmp_path / "weights.parquet").to_pandas().set_index("id")["sample_weight"]
    assert len(weights) == ROWS
    assert set(weights[weights > 0].index) == set(ids)
    assert weights[weights > 0].mean() == pytest.approx(1)
    loss = dict(zip(table["id"].tolist(), table["loss"].tolist(), strict=True))
    tilt = np.exp([loss[each] for each in ids])
    assert weights[ids].to_numpy() == pytest.approx(tilt / tilt.mean(), rel=1e-9)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("unit", "rule"), [("window", "cvar(0.7)"), ("document", "cvar(0.7)"), ("document", "uniform()")]
)
def test_ids_and_weights_of_documents_and_of_rules_that_weigh_are_in_order(tmp_path, unit, rule):
    """In as many threads as there are: windows in that of the scores, then what cannot be ranked; documents by source
    and row."""
    folder = tmp_path / "scores"
    write_fake_scores(folder, 30_000, shard_rows=3000, text=False)
    scores = open_scores(folder)
    name = "id" if unit == "window" else "doc_id"
    with select(scores, Choice(parse_rule(rule), above=0.5, unit=unit), threads=4) as chosen:
        write_ids(chosen, tmp_path / "ids.parquet")
        write_weights(chosen, tmp_path / "weights.parquet")
    weights = pq.read_table(tmp_path / "weights.parquet").to_pandas()
    if unit == "window":
        every = np.concatenate([batch.column("id").to_numpy() for batch in scores.batches(["id"])])
        ranked = np.concatenate([batch.column("n_tokens").to_numpy() > 0 for batch in scores.batches(["n_tokens"])])
        assert weights[name].tolist() == [*every[ranked], *every[~ranked]]
    else:
        place = weights[["source", "row"]]
        assert place.equals(place.sort_values(["source", "row"], ignore_index=True))
    kept = weights[name][weights["sample_weight"] > 0].tolist()
    assert pq.read_table(tmp_path / "ids.parquet")[name].to_pylist() == kept


def test_what_cannot_be_ranked_is_left_out_and_counted(tmp_path):
    folder = tmp_path / "scores"
    write_fake_scores(folder, 100, shard_rows=100)
    found = pq.read_table(folder / "shard-00000.parquet")
    loss, tokens = found["loss"].to_numpy().copy(), found["n_tokens"].to_numpy().copy()
    loss[[3, 4]], loss[5], tokens[6] = np.nan, np.inf, 0
    for name, values in (("loss", loss), ("n_tokens", tokens)):
        found = found.set_column(found.column_names.index(name), found.schema.field(name), [values])
    scores = open_scores(folder)
    pq.write_table(found, folder / "shard-00000.parquet")
    with select(scores, Choice(parse_rule("top_k(0.5)"))) as chosen:
        assert chosen.candidates.left_out == 4
        assert chosen.totals()[0][0:4:2] == (96, 48)
        write_weights(chosen, tmp_path / "weights.parquet")
        assert statement(scores, chosen)["not_ranked"] == 4
    weights = pq.read_table(tmp_path / "weights.parquet")["sample_weight"].to_numpy()
    assert len(weights) == 100
    assert (weights == 0).sum() == 52


def test_the_statement_shows_both_edges_nearest_first(scores, table):
    with select(scores, Choice(parse_rule("band(drop_top=0.1, drop_bottom=0.3)"))) as chosen:
        said = statement(scores, chosen)
    falling = np.sort(table["loss"])[::-1]
    above, below = ([e["loss"] for e in said["left_out"][edge]] for edge in ("above", "below"))
    assert above == falling[180:200][::-1].tolist()
    assert below == falling[1400:1420].tolist()
    assert said["left_out"]["between"] == []
    row = dict(zip(table["id"].tolist(), table["text"].tolist(), strict=True))
    assert all(each["text"] == row[each["id"]] for each in said["left_out"]["above"])
    assert said["all"]["kept"] == 1200
    json.dumps(said)


@pytest.mark.parametrize(("choice", "words"), [
    (Choice(parse_rule("band(drop_top=0.0001)")), "at least 10000 samples"),
    (Choice(above=1e6), "at least one sample"),
    (Choice(parse_rule("ir_dro(r=1.0)"), above=1e6), "at least one sample"),
    (Choice(parse_rule("top_k(0.5)"), above=1e6, within="source"), "at least one sample"),
    (Choice(tokens=1, above=3), "at least one sample"),
    (Choice(parse_rule("top_k(0.5)"), by="elsewhere"), "elsewhere"),
    (Choice(parse_rule("top_k(0.5)"), within="elsewhere"), "elsewhere"),
    (Choice(parse_rule("chain(column_weights(), top_k(0.5))")), "sample_weight"),
])  # fmt: skip
def test_refusals(scores, choice, words):
    with pytest.raises(SamplewiseError, match=words), select(scores, choice):
        pass


def test_a_rule_that_needs_every_loss_must_fit(scores):
    with pytest.raises(SamplewiseError, match="at most 333 samples"):
        with select(scores, Choice()) as chosen:
            weigh(chosen, parse_rule("ir_dro(r=1.0)"), 100_000)


@pytest.mark.parametrize("text", ["0", "-1", "2X", "", "1e9", "0.5", "B"])
def test_amounts_that_are_none(text):
    with pytest.raises(SamplewiseError, match="2B, 500M or 10k"):
        amount(text)
