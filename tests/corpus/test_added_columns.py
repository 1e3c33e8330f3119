"""A second model's losses beside the first's, by id; duplicate ids; instruction rows; URLs; several processes."""

import json
import os
import shutil
import subprocess
import sys

import fsspec
import numpy as np
import pytest
import world
from datasets import Dataset
from scoring import SMALL, score, table

from samplewise.core.errors import SamplewiseError
from samplewise.corpus import add_column, column, open_scores
from samplewise.data import WindowDataset, cut_windows, read_documents
from samplewise.models import load_model


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another model with the same tokenizer."""
    return world.save_model(tmp_path_factory.mktemp("other") / "gpt2", "opt")


@pytest.fixture(scope="module")
def both(tiny_model, other, corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("both") / "out"
    score(tiny_model, corpus, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    score(other, corpus, out, column="reference")
    assert before == {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    return out


def test_a_column_is_what_the_other_model_alone_gives(both, other, corpus, tmp_path):
    score(other, corpus, tmp_path / "alone")
    ids, values = column(both, "reference")
    alone_ids, alone = column(tmp_path / "alone")
    np.testing.assert_array_equal(ids, alone_ids)
    np.testing.assert_array_equal(values, alone)
    assert (values != column(both)[1]).mean() > 0.9
    assert open_scores(both).columns[-1] == "reference"


def test_a_column_takes_the_settings_of_the_scores_and_refuses_others(both, tiny_model, other, tmp_path):
    with pytest.raises(SamplewiseError, match=r"settings\.stride was 0 and is now 3"):
        score(other, world.save_corpus(tmp_path / "corpus.jsonl", least=1), both,
              column="x", stride=3)  # fmt: skip
    with pytest.raises(SamplewiseError, match="corpus was"):
        score(other, world.save_corpus(tmp_path / "less.jsonl", documents=9), both, column="x")
    with pytest.raises(SamplewiseError, match="with no scores"):
        score(other, tmp_path / "less.jsonl", tmp_path / "new", column="x")
    assert not (both / "columns" / "x").exists()


def test_a_column_beside_a_damaged_shard_is_refused_in_a_sentence(both, other, corpus, tmp_path):
    shutil.copytree(both, tmp_path / "out")
    shard = next((tmp_path / "out").glob("shard-*.parquet"))
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(SamplewiseError, match="Parquet files as samplewise score writes them"):
        score(other, corpus, tmp_path / "out", column="again")


def test_a_dataset_gets_a_column_by_sample_id(both, tiny_model, corpus):
    tokenizer = load_model(tiny_model)[1]
    windows = WindowDataset(cut_windows(read_documents(corpus), tokenizer, max_length=32, min_tokens=4))
    rows = [windows[i] for i in np.random.default_rng(0).permutation(len(windows))]
    dataset = Dataset.from_list([{k: v if isinstance(v, int) else v.tolist() for k, v in r.items()} for r in rows])
    joined = add_column(dataset, both, "reference", "reference_loss")
    stored = dict(zip(*(each.tolist() for each in column(both, "reference")), strict=True))
    assert [stored[name] for name in joined["sample_id"]] == joined["reference_loss"]
    whole = [row["sample_id"] for row in rows if len(row["labels"]) == 32]
    cut = Dataset.from_list([{"sample_id": name, "labels": [1] * 24} for name in whole[:5]])
    with pytest.raises(SamplewiseError, match="windows of as many tokens"):
        add_column(cut, both, "reference")
    with pytest.raises(SamplewiseError, match="none for 1 of 1"):
        add_column(Dataset.from_list([{"sample_id": 5}]), both, "loss")
    with pytest.raises(SamplewiseError, match="a column sample_id"):
        add_column(Dataset.from_list([{"text": "a"}]), both, "loss")


def rows_of_chat(count: int) -> list[dict]:
    return [
        {"prompt": f"w1 w2 w{i % 50}", "completion": f" w{i % 7} w3 w4", "sample_id": i, "group": f"g{i % 2}"}
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    rows = rows_of_chat(30)
    rows[20]["sample_id"] = 4
    rows[21]["sample_id"] = 4
    rows[25] = {"prompt": "w1", "completion": ""}
    path = tmp_path_factory.mktemp("chat") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_instruction_rows_have_the_loss_of_their_completion(tiny_model, chat, tmp_path):
    import torch

    manifest = score(tiny_model, chat, tmp_path / "out", kind="instructions", template="plain")
    found = table(tmp_path / "out").to_pydict()
    model, tokenizer, _ = load_model(tiny_model)
    for i in (0, 7, 29):
        ids = tokenizer(f"w1 w2 w{i % 50} w{i % 7} w3 w4</s>")["input_ids"]
        start = len(ids) - 4
        with torch.no_grad():
            log_p = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        losses = -log_p[:-1].gather(1, torch.tensor(ids)[1:, None])[:, 0]
        at = found["id"].index(i)
        assert found["loss"][at] == pytest.approx(float(losses.mean()), abs=1e-6)
        assert found["completion_loss"][at] == pytest.approx(float(losses[start - 1 :].mean()), abs=1e-6)
        assert (found["completion_tokens"][at], found["group"][at]) == (4, f"g{i % 2}")
    assert manifest.reasons == {"duplicate id": 2, "empty response": 1}
    assert (manifest.rows_in, manifest.rows_scored) == (30, 27)


def test_of_records_with_one_id_the_first_is_kept(tiny_model, chat, tmp_path):
    score(tiny_model, chat, tmp_path / "out", kind="instructions", template="plain", shard_bytes=200)
    found = table(tmp_path / "out")
    assert found["row"].to_pylist() == [i for i in range(30) if i not in (20, 21, 25)]
    lines = [json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()]
    assert [(each["row"], each["reason"]) for each in lines] == [
        (20, "duplicate id"), (21, "duplicate id"), (25, "empty response"),
    ]  # fmt: skip
    assert "record 4" in lines[0]["got"]
    score(tiny_model, chat, tmp_path / "out", kind="instructions", template="plain", shard_bytes=200, column="again")
    np.testing.assert_array_equal(column(tmp_path / "out", "again")[1], found["completion_loss"].to_numpy())


def test_data_and_scores_in_an_object_store(tiny_model, corpus, tmp_path):
    files = fsspec.filesystem("memory")
    files.pipe(f"/{tmp_path.name}/data/corpus.jsonl", corpus.read_bytes())
    files.pipe(f"/{tmp_path.name}/data/other.bin", b"no text")
    place = f"memory://{tmp_path.name}"
    score(tiny_model, f"{place}/data", f"{place}/out")
    score(tiny_model, corpus, tmp_path / "out")
    assert table(f"{place}/out").equals(table(tmp_path / "out"))
    assert sorted(files.ls(f"/{tmp_path.name}/out", detail=False))[-1].endswith("parquet")
    score(tiny_model, f"{place}/data/*.jsonl", f"file://{tmp_path}/third")
    assert table(tmp_path / "third").equals(table(tmp_path / "out"))
    with pytest.raises(SamplewiseError, match="fsspec"):
        score(tiny_model, "nosuch://a/b", tmp_path / "x")


COMMAND = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()]


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["torchrun", "accelerate", "ray"])
def test_two_workers_as_people_launch_them(tiny_model, corpus, tmp_path, launch):
    launchers = {
        "torchrun": ["-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "samplewise"],
        "accelerate": ["-m", "accelerate.commands.launch", "--cpu", "--num_processes=2", "--num_machines=1",
                       "--mixed_precision=no", "--dynamo_backend=no", "-m", "samplewise"],
        "ray": ["-m", "samplewise"],
    }  # fmt: skip
    if launch == "ray":
        pytest.importorskip("ray", reason="ray is not installed")
    more = ["--engine=ray", "--workers=2"] if launch == "ray" else []
    command = [
        sys.executable, *launchers[launch], "score", f"--model={tiny_model}", f"--data={corpus}",
        f"--out={tmp_path / 'out'}", "--dtype=float32", *COMMAND, *more,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    score(tiny_model, corpus, tmp_path / "one")
    ours, theirs = table(tmp_path / "out"), table(tmp_path / "one")
    losses = ["loss", "loss_q10", "loss_q50", "loss_q90", "loss_change"]
    assert ours.drop_columns(losses).equals(theirs.drop_columns(losses))
    assert ours["loss"].to_numpy() == pytest.approx(theirs["loss"].to_numpy(), abs=1e-5)
    assert "120 records in = 120 scored + 0 quarantined" in done.stdout


def test_the_command_says_what_came_of_it(tiny_model, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "w1 w2 w3 w4 w5"}\n{"text": 1}\n{"text": " "}\n')
    options = ("--model", tiny_model, "--data", data, "--out", tmp_path / "out", "--max-length", 64)
    done = world.samplewise("score", *options)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.endswith("3 records in = 1 scored + 2 quarantined (1 empty, 1 no text)")
    assert "quarantine.jsonl" in done.stdout
    again = world.samplewise("score", *options)
    assert "finished before" in again.stdout
    assert again.stdout.splitlines()[-1] == last
    for wrong, word in (
        (("--max-length", 1), "at least 2"), (("--rolling", "--stride", 3), "--rolling"),
        (("--max-length", 999), "128"),
        (("--as", "loss"), "--as"), (("--kind", "instructions", "--out", tmp_path / "b"), "chat template"),
    ):  # fmt: skip
        refused = world.samplewise("score", *options, *wrong)
        assert refused.returncode == 1
        assert word in refused.stderr
        assert "unexpected" not in refused.stderr
