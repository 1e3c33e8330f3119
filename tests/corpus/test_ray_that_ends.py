"""A Ray cluster that ends while it scores, made up: it is started again for what is left, or one sentence says so."""

from types import SimpleNamespace

import pytest
import world
from scoring import digests, score

from samplewise.core.errors import SamplewiseError
from samplewise.corpus import ray_driver, ray_engine


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        super().__init__("a traceback of many lines\n" * 20)
        self.cause = cause


class Cluster:
    """As much of Ray as is used, in this process. ends: before which of all shards it does."""

    def __init__(self, ends):
        self.ends, self.shards, self.starts = list(ends), 0, 0
        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        self.DataContext = SimpleNamespace(get_current=lambda: SimpleNamespace())
        self.ActorPoolStrategy = lambda size: size

    def init(self, **options):
        self.starts += 1

    def shutdown(self):
        pass

    def cluster_resources(self):
        return {}

    def from_items(self, items, override_num_blocks):
        self.items = items
        return self

    def map_batches(self, actor, fn_constructor_args, **options):
        self.actor = actor(*fn_constructor_args)
        return self

    def take_all(self):
        import numpy as np

        for item in self.items:
            self.shards += 1
            if self.ends and self.shards >= self.ends[0]:
                self.ends.pop(0)
                raise RayError("The actor died unexpectedly before it finished.")
            try:
                self.actor({"index": np.array([item["index"]])})
            except SamplewiseError as error:
                raise RayTaskError(error) from None


def on(monkeypatch, ends):
    cluster = Cluster(ends)
    monkeypatch.setattr(ray_driver, "import_module", lambda name: cluster)
    monkeypatch.setattr(ray_engine, "drive_apart", ray_driver.drive)
    return cluster


def test_what_is_left_is_scored_on_the_next(tiny_model, corpus, tmp_path, monkeypatch):
    cluster = on(monkeypatch, ends=[1, 1, 4, 4, 4])
    score(tiny_model, corpus, tmp_path / "out", engine="ray", workers=2)
    assert cluster.starts == 6
    score(tiny_model, corpus, tmp_path / "plain")
    assert digests(tmp_path / "out") == digests(tmp_path / "plain")


def test_one_that_never_lasts_is_a_sentence_and_the_command_resumes(tiny_model, corpus, tmp_path, monkeypatch):
    cluster = on(monkeypatch, ends=[3, 3, 3, 3, 3])
    with pytest.raises(SamplewiseError, match=r"^--engine ray: expected a Ray cluster that lasts, got The actor died"):
        score(tiny_model, corpus, tmp_path / "out", engine="ray", workers=2)
    assert cluster.starts == 1 + ray_engine.TRIES
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 2
    on(monkeypatch, ends=[])
    assert score(tiny_model, corpus, tmp_path / "out", engine="ray", workers=2).rows_in == 120


def test_a_refused_record_is_said_as_elsewhere(tiny_model, tmp_path, monkeypatch):
    cluster = on(monkeypatch, ends=[])
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "w1 w2 w3 w4 w5"}\n{"text": 5}\n')
    words = ("--model", tiny_model, "--data", data, "--out", tmp_path / "out", "--max-length", 16, "--strict")
    done = world.samplewise("score", *words, "--engine", "ray")
    assert done.returncode == 1
    assert "samplewise: data.jsonl, line 2: expected a record that can be scored (--strict is on)" in done.stderr
    assert cluster.starts == 1
