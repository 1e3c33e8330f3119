"""Cuts and draws in DuckDB against numpy and torch: the same rows, whatever the ties, the parts and the memory."""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fake_scores import write_fake_scores
from hypothesis import given, settings
from hypothesis import strategies as st

from samplewise.corpus.cut import ANY, Ranking
from samplewise.corpus.draw import define, draw
from samplewise.corpus.output import write_ids, write_weights
from samplewise.corpus.select import select
from samplewise.corpus.selection import Choice
from samplewise.corpus.store import open_scores
from samplewise.rules.base import uniforms
from samplewise.rules.parse import parse_rule


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect(config={"memory_limit": "300MB", "threads": 1}) as connection:
        define(connection)
        yield connection


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 2**63 - 1), min_size=1), st.integers(0, 2**62), st.integers(0, 10))
def test_draws_are_the_rules_own(connection, ids, seed, step):
    connection.register("t", pa.table({"id": pa.array(ids, "int64")}))
    found = connection.sql(f"SELECT {draw(seed, step)} AS d FROM t").fetchnumpy()["d"]
    assert found.tolist() == uniforms(torch.tensor(ids), step, seed).tolist()


values = st.sampled_from([0.0, 1.0, -1.0, 2.5, 1e30, -1e30, 1e-30]) | st.floats(-10, 10, width=32)
rows = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), values, st.integers(1, 9)), min_size=1, max_size=60)


@pytest.mark.parametrize("few", [2**20, 3])
@pytest.mark.parametrize("measure", ["1", "tokens"])
@settings(deadline=None, max_examples=40)
@given(rows=rows, share=st.floats(0, 1.1))
def test_a_cut_ends_the_longest_prefix_that_fits(connection, few, measure, rows, share):
    part, score, tokens = (np.array(column) for column in zip(*rows, strict=True))
    ids = np.random.default_rng(len(rows)).permutation(len(rows))
    connection.register("t", pa.table({"part": part, "id": ids, "score": score, "tokens": tokens}))
    size = np.ones_like(tokens) if measure == "1" else tokens
    amounts = {name: int(share * size[part == name].sum()) for name in set(part)}
    half = {name: amount // 2 for name, amount in amounts.items()}
    ranking = Ranking(connection, "t", "score", measure, bins=48, few=few)
    assert {name: own.total for name, own in ranking.parts.items()} == {n: size[part == n].sum() for n in set(part)}
    found = zip(ranking.cuts(amounts, half), (amounts, half), strict=True)
    for cuts, name, amount in [(cuts, *each) for cuts, wanted in found for each in wanted.items()]:
        own = part == name
        order = np.lexsort((ids[own], -score[own]))
        expected = ids[own][order][: np.searchsorted(np.cumsum(size[own][order]), amount, side="right")]
        here = cuts[name]
        among = (score > here.score) | ((score == here.score) & (ids <= here.id))
        assert sorted(ids[own & among]) == sorted(expected)


def test_an_outlier_and_many_ties_take_more_rounds_and_no_rounding(connection):
    score = np.r_[1e30, np.nextafter(1.0, 2.0), np.repeat(1.0, 5000), np.linspace(0, 1e-6, 5000)]
    connection.register("t", pa.table({"part": np.zeros(len(score), int), "id": np.arange(len(score)), "score": score}))
    for amount in (1, 2, 3, 2500, 5002, 5003, 10_001):
        found = Ranking(connection, "t", "score", few=100).cuts({0: amount})[0][0]
        expected, *behind = np.argsort(-score, kind="stable")[amount - 1 : amount + 1]
        parts_ties = behind and score[behind[0]] == score[expected]
        assert (found.score, found.id) == (score[expected], expected if parts_ties else ANY)


def test_ids_stand_in_the_order_of_the_scores(tmp_path):
    """With several threads over many groups of rows, which a join would hand on in any order."""
    folder = write_fake_scores(tmp_path / "scores", 200_000, shard_rows=40_000, text=False)
    with select(
        open_scores(folder), Choice(rule=parse_rule("band(drop_top=0.1, drop_bottom=0.3)")), threads=4
    ) as found:
        write_ids(found, tmp_path / "ids.parquet")
        kept = pq.read_table(tmp_path / "ids.parquet")["id"].to_numpy()
    with open_scores(folder).connect(threads=1) as connection:
        every = connection.sql("SELECT id FROM scores").fetchnumpy()["id"]
    place = {name: number for number, name in enumerate(every.tolist())}
    assert (np.diff([place[name] for name in kept.tolist()]) > 0).all()
    assert len(kept) == 120_000


@pytest.mark.parametrize("rule", ["band(drop_top=0.1)", "ir_dro(r=1)"])
def test_ids_that_a_joined_column_ranks_stand_by_source_row_and_window(tmp_path, rule):
    """A join hands rows on in any order: twice the same bytes."""
    folder = write_fake_scores(tmp_path / "scores", 150_000, shard_rows=40_000, text=False, added=("reference",))
    scores = open_scores(folder)
    for name in ("first", "second"):
        with select(scores, Choice(parse_rule(rule), by="excess"), threads=4) as found:
            write_ids(found, tmp_path / f"{name}.parquet")
            write_weights(found, tmp_path / f"{name}_weights.parquet")
    for kind in ("", "_weights"):
        assert (tmp_path / f"first{kind}.parquet").read_bytes() == (tmp_path / f"second{kind}.parquet").read_bytes()
    weights = pq.read_table(tmp_path / "first_weights.parquet").to_pandas()
    place = ["source", "row", "window"]
    assert weights[place].equals(weights[place].sort_values(place, ignore_index=True))
    kept = weights["id"][weights["sample_weight"] > 0].tolist()
    assert pq.read_table(tmp_path / "first.parquet")["id"].to_pylist() == kept
