"""Sums that do not depend on the order of rows, and selections that are the same twice."""

import math
import random

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import world
from fake_scores import write_fake_scores

from samplewise.corpus.sums import sum_sql, sums

SPREADS = {"losses": (0.5, 1), "tiny": (1e-30, 3), "wide": (1.0, 30), "huge": (1e290, 5)}


def numbers(scale: float, decades: float, count: int = 5000) -> np.ndarray:
    draw = np.random.default_rng(0)
    return scale * draw.normal(size=count) * 10 ** (decades * draw.random(count))


@pytest.mark.parametrize("spread", SPREADS)
def test_a_sum_is_the_same_in_any_order_and_exact(spread):
    values = numbers(*SPREADS[spread])
    connection, found, plain = duckdb.connect(), set(), set()
    for seed in range(6):
        order = values.copy()
        random.Random(seed).shuffle(order)
        connection.register("rows", pa.table({"x": order}))
        total, = sums(connection, "rows", "x")  # fmt: skip
        found.add(connection.sql(f"SELECT {total} FROM rows").fetchall()[0][0])
        plain.add(connection.sql("SELECT sum(x) FROM rows").fetchall()[0][0])
    assert len(plain) > 1, "the order matters to a plain sum"
    assert len(found) == 1
    assert found.pop() == pytest.approx(math.fsum(values), rel=1e-14)


def test_a_sum_of_what_is_not_finite_is_not_finite():
    connection = duckdb.connect()
    for value in (math.nan, math.inf):
        connection.register("rows", pa.table({"x": [1.0, value]}))
        total, = sums(connection, "rows", "x")  # fmt: skip
        assert not math.isfinite(connection.sql(f"SELECT {total} FROM rows").fetchall()[0][0])
    assert sum_sql("x", 1.7e308, 100) == "(sum(x))"
    connection.register("rows", pa.table({"x": pa.array([], pa.float64())}))
    total, = sums(connection, "rows", "x")  # fmt: skip
    assert connection.sql(f"SELECT {total} FROM rows").fetchall() == [(None,)]


CASES = {
    "a.parquet": ("--weights", "--rule", "ir_dro(r=3)", "--unit", "document"),
    "b.txt": ("--ids", "--rule", "band(drop_top=0.1)", "--within", "source", "--tokens", "2M"),
    "c.parquet": (
        "--weights",
        "--reweight",
        "--per",
        "source",
        "--shares",
        "part-0.jsonl=.5,part-1.jsonl=.3,part-2.jsonl=.2",
        "--above",
        "1",
    ),
}


@pytest.mark.parametrize(("rows", "cases"), [(20_000, 1), pytest.param(500_000, None, marks=pytest.mark.slow)])
def test_a_selection_and_a_report_are_the_same_bytes_each_time(tmp_path, rows, cases):
    """On several files, which threads read at once, and on enough rows that their shares differ from run to run."""
    scores = write_fake_scores(tmp_path / "scores", rows, shard_rows=rows // 4, text=False)
    found = []
    for number in range(2 if cases else 3):
        out = tmp_path / str(number)
        out.mkdir()
        for name, words in list(CASES.items())[:cases]:
            done = world.samplewise("select", scores, "--out", out / name, *words)
            assert done.returncode == 0, done.stderr
        assert world.samplewise("report", scores, "--out", out / "r.html").returncode == 0
        found.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert all(each == found[0] for each in found[1:])
