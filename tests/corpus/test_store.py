"""The table over all shards is what was written, in DuckDB and in Arrow, with added columns at the right ids."""

import json

import numpy as np
import pyarrow as pa
import pytest
from fake_scores import write_fake_scores

from samplewise.core.errors import SamplewiseError
from samplewise.corpus import column, open_scores
from samplewise.corpus.manifest import Manifest, write_manifest
from samplewise.corpus.place import Place
from samplewise.corpus.store import check_name


def whole(scores, columns=None):
    return pa.Table.from_batches(list(scores.batches(columns)))


@pytest.mark.parametrize("url", [False, True])
def test_duckdb_and_arrow_see_the_same_table(tmp_path, url):
    path = f"memory://{tmp_path.name}/scores" if url else tmp_path
    scores = open_scores(write_fake_scores(path, 1000, shard_rows=300, groups=2, completion=True, added=("reference",)))
    table = whole(scores)
    assert table.num_rows == len(scores) == 1000
    assert table.column_names[-1] == "reference"
    with scores.connect(memory="200MB", threads=1) as connection:
        found = connection.sql('SELECT * FROM scores ORDER BY row, "window"').to_arrow_table()
    assert found.cast(table.schema).equals(table)


def test_an_added_column_is_joined_by_id(tmp_path):
    scores = open_scores(write_fake_scores(tmp_path, 700, added=("reference", "other")))
    ids, values = column(scores, "reference")
    with scores.connect() as connection:
        pairs = connection.sql("SELECT id, reference FROM scores").fetchall()
    assert dict(pairs) == dict(zip(ids.tolist(), values.tolist(), strict=True))
    assert np.isfinite(values).all()


def test_a_column_of_other_ids_is_refused(tmp_path):
    write_fake_scores(tmp_path, 300, added=("reference",))
    place, name = Place(tmp_path), "columns/reference/shard-00000.parquet"
    other = pa.table({"id": pa.array(range(300)), "reference": pa.array([0.0] * 300, pa.float32())})
    scores = open_scores(tmp_path)
    pa.parquet.write_table(other, place.inside(name))
    with pytest.raises(SamplewiseError, match="the ids of the scores"):
        column(scores, "reference")
    assert len(column(scores, "loss")[0]) == 300


def test_a_changed_byte_is_found(tmp_path):
    scores = open_scores(write_fake_scores(tmp_path, 300, added=("reference",)))
    scores.verify()
    path = tmp_path / "columns" / "reference" / "shard-00000.parquet"
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)
    with pytest.raises(SamplewiseError, match="a changed columns/reference/shard-00000"):
        scores.verify()


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(SamplewiseError, match="with no scores"):
        open_scores(tmp_path)
    (tmp_path / ".parts").mkdir()
    (tmp_path / ".parts" / "run.json").write_text("{}")
    with pytest.raises(SamplewiseError, match=r"unfinished.*the same samplewise score command again"):
        open_scores(tmp_path)
    write_fake_scores(tmp_path, 10)
    with pytest.raises(SamplewiseError, match="--as reference"):
        column(tmp_path, "reference")
    (tmp_path / "manifest.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(SamplewiseError, match="the version of samplewise that wrote it"):
        open_scores(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(SamplewiseError, match="damaged"):
        open_scores(tmp_path)


def test_counts_that_do_not_add_up_are_not_written(tmp_path):
    with pytest.raises(SamplewiseError, match="rows in = scored"):
        write_manifest(Place(tmp_path), Manifest(3, 1, 1, 0, 0, [], {}, reasons={"empty": 1}))
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize("name", ["loss", "a b", "../x", "", "id", "1st"])
def test_names_that_cannot_be_columns(name):
    with pytest.raises(SamplewiseError, match="--as"):
        check_name(name)
