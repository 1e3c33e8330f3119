"""Runs on instructions: what is prepared, trained, saved and resumed, whole models and adapters."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import transformers
import world
from safetensors.torch import load_file

from samplewise.config import InstructionsConfig, LoraConfig, RunConfig, load_config
from samplewise.config.settings_file import to_yaml
from samplewise.core.errors import SamplewiseError
from samplewise.data import instruction_id
from samplewise.evidence.run.arguments import check_training, training_arguments
from samplewise.evidence.run.execute import run
from samplewise.evidence.run.instructions import prepare_instructions
from samplewise.report import draw_finished

LORA = "lora={r: 2, alpha: 4, target_modules: [q_proj, v_proj]}"
ROOT = Path(__file__).parent.parent.parent


def save_rows(path: Path, count: int = 90) -> Path:
    words = world.WORDS
    rows = [
        {"instruction": f"{words[i % 45]} {words[(7 * i) % 60]} {words[i // 45]}",
         "output": " ".join(words[(i * k) % (5 + i % 50)] for k in range(1, 5 + i % 9)), "group": "ab"[i % 2]}
        for i in range(count)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    world.save_model(folder / "model")
    save_rows(folder / "rows.jsonl")
    return folder


@pytest.fixture
def tokenizer(here):
    return transformers.AutoTokenizer.from_pretrained(here / "model")


@pytest.fixture
def config(here, tmp_path):
    def config(*overrides, output="out"):
        data = {"kind": "instructions", "path": str(here / "rows.jsonl"), "max_length": 64, "chat_template": "plain"}
        path = world.write_run(
            tmp_path / "run.yaml", here / "model", here, tmp_path / output, data=data | {"held_out": 0.2}
        )
        return load_config(path, ["training.max_steps=4", "training.gradient_checkpointing=false", *overrides])

    return config


FORMS = {
    "padded": (),
    "packed": ("training.packing=true", "training.per_device_train_batch_size=2"),
    "padding-free": ("training.padding_free=true",),
    "adapters": (LORA,),
    "adapters, packed": (LORA, "training.packing=true", "training.per_device_train_batch_size=2"),
}


SLOW = ("padded", "padding-free", "adapters, packed")


@pytest.mark.parametrize("form", [pytest.param(f, marks=[pytest.mark.slow] if f in SLOW else []) for f in FORMS])
def test_a_run_trains_and_ends_alike_when_resumed(config, tmp_path, form):
    settings, said = config(*FORMS[form], "training.save_steps=2"), []
    finished = run(settings, say=said.append, draw=draw_finished)
    assert finished.history.steps == 4
    assert finished.history.left_out > 0
    assert any("plain headings" in line for line in said)
    assert any("a 0, b 1" in line for line in said)
    assert (finished.folder / "run.png").exists()
    whole = weights(finished.folder / "model")
    for name in ("results.json", "model", "checkpoint-4"):
        path = finished.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    again = run(settings, resume=True, say=str)
    assert again.history.curves["loss"] == finished.history.curves["loss"]
    assert all(torch.equal(value, whole[name]) for name, value in weights(again.folder / "model").items())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(next(iter(folder.glob("*.safetensors"))))


def test_packed_and_padded_rows_hold_the_same_samples(config, tmp_path):
    """One step over all conversations: the same loss, whatever the rows."""
    shares = []
    for form, rows in (("padded", 16), ("packed", 9)):
        least = ("rule=uniform()", "training.max_steps=1", f"training.per_device_train_batch_size={rows}")
        finished = run(
            config(*least, *FORMS[form][:1], "training.gradient_accumulation_steps=99", output=form), say=str
        )
        shares.append((finished.history.samples, finished.history.curves["loss"][0], finished.history.tokens))
    assert shares[0][::2] == shares[1][::2]
    assert shares[0][1] == pytest.approx(shares[1][1], rel=1e-5)


@pytest.mark.parametrize(
    ("override", "said"),
    [("training.eval_strategy=steps", "eval_dataset"),
     ("lora={r: 2, alpha: 4, target_modules: [lm_head]}", "lm_head")],
)  # fmt: skip
def test_what_the_trainer_itself_refuses_is_one_line(config, override, said):
    with pytest.raises(SamplewiseError, match=rf"^training: expected what the trainer takes, got .*{said}"):
        run(config(override), say=str)


def test_adapters_alone_are_trained_and_saved(config, here, tmp_path):
    import peft

    finished = run(config(LORA), say=str)
    model, before = finished.folder / "model", weights(here / "model")
    assert {path.name for path in model.glob("adapter_*")} == {"adapter_config.json", "adapter_model.safetensors"}
    assert sum(value.numel() for value in weights(model).values()) < sum(v.numel() for v in before.values()) / 5
    loaded = peft.AutoPeftModelForCausalLM.from_pretrained(model)
    base = loaded.get_base_model().state_dict()
    assert all(
        torch.equal(base[name.replace("q_proj.", "q_proj.base_layer.").replace("v_proj.", "v_proj.base_layer.")], value)
        for name, value in before.items()
    )
    assert finished.after.mean < finished.before.mean


def test_text_takes_adapters_too(here, tmp_path):
    world.save_corpus(tmp_path / "corpus.jsonl", 60)
    path = world.write_run(tmp_path / "run.yaml", here / "model", tmp_path / "corpus.jsonl", tmp_path / "out")
    finished = run(load_config(path, [LORA, "training.max_steps=2"]), say=str)
    assert (finished.folder / "model" / "adapter_model.safetensors").exists()


def test_every_sample_is_logged_under_its_own_id(config, tmp_path):
    import pyarrow.parquet

    finished = run(config(f"log_samples={tmp_path / 'samples'}", *FORMS["packed"]), say=str)
    table = pyarrow.parquet.read_table(tmp_path / "samples").to_pydict()
    assert len(table["id"]) == finished.history.samples
    assert set(table["step"]) == {1, 2, 3, 4}
    assert set(table["id"]) <= {instruction_id("rows.jsonl", row) for row in range(90)}


def test_layers_that_are_not_there_are_named(config):
    with pytest.raises(SamplewiseError, match=r"lora: .*no_proj"):
        run(config("lora={target_modules: [no_proj]}"), say=str)


def test_packing_without_boundaries_is_refused(config):
    with pytest.raises(SamplewiseError, match="packing_strategy"):
        run(config(*FORMS["packed"], "training.packing_strategy=wrapped"), say=str)


def test_turns_may_be_samples(config, tmp_path):
    rows = [
        {"messages": [{"role": role, "content": f"w{i} w{k}"} for k in range(3) for role in ("user", "assistant")]}
        for i in range(40)
    ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    samples = []
    for turns in ("false", "true"):
        finished = run(config(f"data.path={tmp_path / 'chats.jsonl'}", f"data.turns={turns}", output=turns), say=str)
        samples.append(finished.history.samples)
    assert samples[1] == 3 * samples[0]


def test_weights_of_the_data_are_used(config, tmp_path, here):
    rows = [json.loads(line) for line in (here / "rows.jsonl").read_text().splitlines()]
    lines = [json.dumps(row | {"sample_weight": i % 2}) + "\n" for i, row in enumerate(rows)]
    (tmp_path / "weighted.jsonl").write_text("".join(lines))
    finished = run(config(f"data.path={tmp_path / 'weighted.jsonl'}", "rule=column_weights()"), say=str)
    assert 0 < finished.history.left_out < finished.history.samples
    with pytest.raises(SamplewiseError, match="sample_weight"):
        run(config("rule=column_weights()", output="none"), say=str)


def test_the_template_that_was_given_is_saved(config, tmp_path):
    finished = run(config("training.max_steps=1"), say=str)
    saved = transformers.AutoTokenizer.from_pretrained(finished.folder / "model")
    said = [{"role": "user", "content": "w1"}]
    assert saved.apply_chat_template(said, tokenize=False, add_generation_prompt=True).endswith("### Assistant:\n")
    assert "generation %}" not in saved.chat_template


# ---- data ----


def test_weights_below_0_are_read_where_the_run_file_allows_them(here, tmp_path):
    """The loss of the rows of weight −0.5 is raised; without the option the first of them is named."""
    rows = [json.loads(line) for line in (here / "rows.jsonl").read_text().splitlines()]
    path = tmp_path / "rows.jsonl"
    weighed = [{**row, "sample_weight": [1.0, -0.5][k % 2]} for k, row in enumerate(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in weighed))
    output = tmp_path / "out"
    file = world.write_run(
        tmp_path / "run.yaml", here / "model", path, output, rule="column_weights()", per="token",
        norm="nonzero_tokens", log_samples=str(output / "log"),
        data={"kind": "instructions", "path": str(path), "chat_template": "plain", "max_length": 64},
    )  # fmt: skip
    with pytest.raises(SamplewiseError, match=r"line 2.*a finite number of at least 0 in sample_weight"):
        run(load_config(file, ["training.max_steps=1"]), say=str)
    run(load_config(file, ["training.max_steps=2", "allow_negative=true"]), say=str)
    found = pq.read_table(output / "log").to_pylist()
    assert {row["weight"] > 0 for row in found} == {True, False}


def test_no_prompt_is_on_both_sides_and_all_is_counted(here, tokenizer, tmp_path):
    lines = (here / "rows.jsonl").read_text().splitlines(keepends=True)
    more = json.dumps({"instruction": " ".join(world.WORDS * 2), "output": "w1"}) + "\n"
    (tmp_path / "rows.jsonl").write_text(
        "".join([*lines, lines[0], more]).replace(', "group": "a"', "").replace(', "group": "b"', "")
    )
    data = InstructionsConfig(str(tmp_path / "rows.jsonl"), chat_template="plain", held_out=0.3, max_length=60)
    found = prepare_instructions(data, tokenizer)
    trained, held = found.counts["training"], found.counts["held_out"]
    assert found.counts["duplicates"]["exact"] == 1
    assert found.counts["read"] == {"conversations": 92, "forms": {"alpaca": 92}, "skipped": {}}
    assert trained["conversations"] + held["conversations"] + trained["no_target"] + held["no_target"] == 91
    assert trained["no_target"] + held["no_target"] == 1
    assert len(found.train) == trained["conversations"]
    assert not {example.id for example in found.held_out} & set(found.train["sample_id"])
    few = prepare_instructions(InstructionsConfig(**vars(data) | {"held_out_conversations": 3}), tokenizer)
    assert len(few.held_out) == 3
    assert few.train["sample_id"][:] == found.train["sample_id"][:]


def test_held_out_data_of_its_own_is_not_trained_on(here, tokenizer, tmp_path):
    rows = [json.loads(line) for line in (here / "rows.jsonl").read_text().splitlines()]
    apart = [rows[0], rows[1] | {"output": "w59 w58"}]
    (tmp_path / "apart.jsonl").write_text("".join(json.dumps(row) + "\n" for row in apart))
    data = InstructionsConfig(
        str(here / "rows.jsonl"), chat_template="plain", held_out_from=str(tmp_path / "apart.jsonl")
    )
    found = prepare_instructions(data, tokenizer)
    assert len(found.held_out) == 2
    assert len(found.train) == 88
    assert found.counts["duplicates"] == {"exact": 1, "near": 0, "same_prompt": 1}
    assert any("1 with the prompt of a held-out one" in line for line in found.lines)


def test_held_out_conversations_do_not_depend_on_the_others(here, tokenizer, tmp_path):
    lines = (here / "rows.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_text("".join(lines[:50][::-1]))
    sides = []
    for path in (here / "rows.jsonl", tmp_path / "rows.jsonl"):
        data = InstructionsConfig(str(path), chat_template="plain", held_out=0.3)
        found = prepare_instructions(data, tokenizer).held_out
        sides.append({tokenizer.decode(each.input_ids) for each in found})
    assert sides[1] < sides[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_length": 5}, "something to predict"),
        ({"max_length": 999}, "the model's context, 128"),
        ({"chat_template": None}, "chat_template: expected a chat template"),
        ({"held_out": 0.0}, "held_out"),
        ({"path": "none.jsonl"}, "nothing of that name"),
        ({"format": "messages"}, "line 1: expected the fields messages"),
    ],
)
def test_what_cannot_be_prepared_is_named(here, tokenizer, change, message):
    least = {"path": str(here / "rows.jsonl"), "chat_template": "plain", "max_length": 64}
    data = InstructionsConfig(**least | change)
    with pytest.raises(SamplewiseError, match=message):
        prepare_instructions(data, tokenizer, 128)


def test_groups_keep_their_numbers_whoever_is_left(here, tokenizer, tmp_path):
    rows = [{"instruction": " ".join(world.WORDS * 2), "output": "w1", "group": "a"}]
    rows += [
        json.loads(line) | {"group": "bc"[i % 2]}
        for i, line in enumerate((here / "rows.jsonl").read_text().splitlines())
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = InstructionsConfig(str(tmp_path / "rows.jsonl"), chat_template="plain", max_length=60, held_out=0.2)
    found = prepare_instructions(data, tokenizer)
    assert found.counts["groups"] == {"a": 0, "b": 1, "c": 2}
    assert set(found.train["group"]) == {1, 2}, "the long one of group a is left out"


# ---- the run file ----


@pytest.mark.parametrize("name", ["instructions", "instructions_lora"])
def test_the_examples_read(name, tmp_path):
    path = ROOT / "examples" / f"{name}.yaml"
    settings = load_config(path)
    assert isinstance(settings.data, InstructionsConfig)
    check_training(settings.training, "instructions")
    (tmp_path / "again.yaml").write_text(to_yaml(settings))
    assert load_config(tmp_path / "again.yaml") == settings
    if name == "instructions":
        named = path.read_text().replace("# ", "")
        for field in [*InstructionsConfig.__dataclass_fields__, *RunConfig.__dataclass_fields__]:
            assert f"{field}:" in named, f"{field} is missing from the example"
    else:
        assert settings.lora == LoraConfig(16, 32.0, 0.0, "all-linear")


LEAST = "model: m\nrule: uniform()\noutput: out\ndata: {path: x, kind: instructions}\n"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.kind=chat", "data.kind: expected 'text' or 'instructions', got 'chat'"),
        ("data.chat_templat=x", "Did you mean chat_template?"),
        ("data.text_field=x", "data.text_field: expected a known key"),
        ("data.format=csv", "data.format: expected 'auto' or"),
        ("lora.rank=3", "lora.rank: expected a known key"),
        ("lora.r=many", "lora.r: expected a whole number"),
        ("lora=3", "lora: expected a mapping"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path, override, message):
    (tmp_path / "run.yaml").write_text(LEAST)
    with pytest.raises(SamplewiseError, match=message):
        load_config(tmp_path / "run.yaml", [override])


def test_adapters_have_defaults_and_may_be_off(tmp_path):
    (tmp_path / "run.yaml").write_text(LEAST)
    assert load_config(tmp_path / "run.yaml", ["lora.r=4"]).lora == LoraConfig(r=4)
    assert load_config(tmp_path / "run.yaml", ["lora=null"]).lora is None


def test_training_takes_the_names_of_trl(tmp_path):
    check_training({"packing": True, "packing_strategy": "bfd", "padding_free": True, "pad_token": "x"}, "instructions")
    for training, message in (
        ({"packin": True}, "field of SFTConfig.*Did you mean packing?"),
        ({"packing": "yes"}, "true or false"),
        ({"max_length": 3}, r"data\.max_length"),
        ({"assistant_only_loss": True}, "only the assistant's"),
    ):
        with pytest.raises(SamplewiseError, match=message):
            check_training(training, "instructions")
    with pytest.raises(SamplewiseError, match="field of TrainingArguments"):
        check_training({"packing": True})
    kept = {"gradient_checkpointing": False}
    assert training_arguments({"packing": True, **kept}, tmp_path, 64).max_length == 64  # pyright: ignore
    assert training_arguments({"padding_free": True, **kept}, tmp_path, 64).max_length is None  # pyright: ignore
