"""LLaMA-Factory's classic trainer and its v1, from the command line, on the rows that all frameworks train on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import same_rows
import transformers
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers

DRIVER = Path(__file__).parent / "llamafactory_driver.py"
CLASSIC = {
    "stage": "sft", "do_train": True, "finetuning_type": "full", "template": "empty",
    "per_device_train_batch_size": same_rows.MICRO, "gradient_accumulation_steps": same_rows.ACCUMULATION,
    "max_steps": 1, "max_grad_norm": 0.0, "lr_scheduler_type": "constant", "save_strategy": "no", "report_to": "none",
    "use_cpu": True, "disable_tqdm": True, "dataloader_pin_memory": False, "logging_steps": 1,
}  # fmt: skip
V1 = {
    "template": "ids", "micro_batch_size": same_rows.MICRO, "global_batch_size": same_rows.ROWS, "max_steps": 1,
    "max_grad_norm": 1e9, "bf16": False, "batching_workers": 0, "enable_activation_checkpointing": False,
    "flash_attn": "eager",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The tiny model with a word for each id, and the rows in the form that each of the two reads."""
    folder = tmp_path_factory.mktemp("llamafactory")
    same_rows.tiny_model().save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "model")
    rows = datasets.Dataset.from_list(same_rows.rows())
    datasets.DatasetDict({"train": rows}).save_to_disk(folder / "rows")
    (folder / "rows.jsonl").write_text("".join(json.dumps(conversation(row)) + "\n" for row in same_rows.rows()))
    return folder


def tokenizer():
    """One word for each id."""
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(same_rows.VOCABULARY)}, unk_token="w3"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": "w1", "eos_token": "w2", "pad_token": "w0", "unk_token": "w3"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special)


def conversation(row, weights=(0.0, 1.0)):
    """A row as messages of words: what is not predicted is the user's."""
    prompt = row["labels"].count(-100)
    parts = [("user", row["input_ids"][:prompt], weights[0]), ("assistant", row["input_ids"][prompt:], weights[1])]
    messages = [
        {"role": role, "content": [{"type": "text", "value": " ".join(f"w{i}" for i in ids)}], "loss_weight": weight}
        for role, ids, weight in parts
        if ids
    ]
    return {"messages": messages, "sample_id": row["sample_id"]}


def command_line(folder, tmp_path, config, *, v1=False, **more):
    """What `python -m samplewise.trainers.llamafactory run.yaml` prints, and the gradient of its first step."""
    data = {"train_dataset": str(folder / "rows.jsonl")} if v1 else {"tokenized_path": str(folder / "rows"), "dataset": "rows"}
    model = {"model" if v1 else "model_name_or_path": str(folder / "model"), "output_dir": str(tmp_path / "out")}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**config, **model, **data, **more}))
    command = [sys.executable, str(DRIVER), str(tmp_path / "gradient.safetensors"), str(tmp_path / "run.yaml")]
    environment = os.environ | {"USE_V1": "1" if v1 else "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    return done


@pytest.mark.parametrize("v1", [False, True], ids=["classic", "v1"])
@pytest.mark.parametrize("rule", [same_rows.RULE, f"chain(band(), {same_rows.RULE})"], ids=["one pass", "two passes"])
def test_the_same_gradient(folder, tmp_path, v1, rule):
    done = command_line(folder, tmp_path, V1 if v1 else CLASSIC, v1=v1, samplewise={"rule": rule})
    assert done.returncode == 0, done.stderr[-3000:]
    off = same_rows.distance(same_rows.caught_at(tmp_path / "gradient.safetensors"))
    assert off <= 1e-5, off
