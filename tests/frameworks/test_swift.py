"""ms-swift's own command line on the rows that every framework's test trains on."""

import json
import os
import re
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
import same_rows
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from samplewise import SamplewiseError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # ms-swift's own, when it is imported
    from swift.trainers import TrainerFactory

    from samplewise.trainers.swift import refuse_swift_options, weight_samples

CATCH = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import same_rows
same_rows.held = same_rows.catch_gradient(Path("gradient.safetensors"))
same_rows.held.__enter__()
from swift.template import TemplateMeta, register_template
register_template(TemplateMeta("words", prefix=[], prompt=["{{{{QUERY}}}}"], chat_sep=None, suffix=[]))
"""
WEIGHTED = """
from samplewise.trainers.swift import weight_samples
weight_samples({rule!r}, per={per!r})
"""
ARGUMENTS = {
    "model": "model", "model_type": "llama", "template": "words", "dataset": "rows.jsonl", "strict": "true",
    "tuner_type": "full", "output_dir": "out", "per_device_train_batch_size": same_rows.MICRO, "max_steps": 1,
    "gradient_accumulation_steps": same_rows.ACCUMULATION, "max_grad_norm": 1e6, "torch_dtype": "float32",
    "bf16": "false", "fp16": "false", "save_strategy": "no", "report_to": "none", "dataloader_num_workers": 0,
    "check_model": "false", "attn_impl": "eager", "gradient_checkpointing": "false", "external_plugins": "plugin.py",
}  # fmt: skip


def write(folder):
    """The model, a tokenizer of one word for each id, and the rows as messages: the assistant's words are predicted."""
    same_rows.tiny_model().save_pretrained(folder / "model")
    words = {"<pad>": 0, "<s>": 1, "</s>": 2, **{f"w{i}": i for i in range(3, same_rows.VOCABULARY)}}
    backend = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder / "model")
    with open(folder / "rows.jsonl", "w", encoding="utf-8") as file:
        for row in same_rows.rows():
            prompt = row["labels"].count(-100)
            said = [f"w{i}" for i in row["input_ids"]]
            parts = [("user", said[:prompt]), ("assistant", said[prompt:])]
            messages = [{"role": role, "content": " ".join(part)} for role, part in parts if part]
            file.write(json.dumps({"messages": messages}) + "\n")


def run(folder, plugin):
    (folder / "plugin.py").write_text(CATCH.format(here=os.path.dirname(__file__)) + plugin, encoding="utf-8")
    command = [sys.executable, "-m", "swift.cli.main", "sft"]
    command += [str(part) for name, value in ARGUMENTS.items() for part in (f"--{name}", value)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return same_rows.caught_at(folder / "gradient.safetensors"), done.stdout + done.stderr


def test_the_gradient_is_the_one_of_every_framework(tmp_path):
    write(tmp_path)
    caught, said = run(tmp_path, WEIGHTED.format(rule=same_rows.RULE, per="sample"))
    assert (off := same_rows.distance(caught)) <= 1e-6, off
    assert "samplewise/ess" in said


@pytest.mark.slow
def test_uniform_weights_per_token_are_its_own_trainers(tmp_path):
    write(tmp_path)
    plain, _ = run(tmp_path, "")
    weighted, _ = run(tmp_path, WEIGHTED.format(rule="uniform()", per="token"))
    a, b = (torch.cat([each[name].flatten() for name in sorted(plain)]) for each in (weighted, plain))
    assert float((a - b).norm() / b.norm()) <= 1e-6


OFF = {"enable_dft_loss": False, "enable_channel_loss": False}
PLAIN = {"packing": False, "padding_free": False, "sequence_parallel_size": 1}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("packing", True),
        ("padding_free", True),
        ("sequence_parallel_size", 2),
        ("enable_dft_loss", True),
        ("enable_channel_loss", True),
    ],
)
def test_what_does_not_hold_is_refused_by_name(name, value):
    args, template = ({key: value if key == name else own for key, own in part.items()} for part in (OFF, PLAIN))
    trainer = SimpleNamespace(args=SimpleNamespace(**args), template=SimpleNamespace(**template), train_dataset=[1])
    with pytest.raises(SamplewiseError, match=f"^{name}: expected a setting that can be combined"):
        refuse_swift_options(trainer)


def test_a_stream_is_refused():
    trainer = SimpleNamespace(args=SimpleNamespace(**OFF), template=SimpleNamespace(**PLAIN), train_dataset=iter([]))
    with pytest.raises(SamplewiseError, match=r"^streaming: "):
        refuse_swift_options(trainer)


def test_options_are_checked_before_a_model_is_loaded():
    before = dict(TrainerFactory.TRAINER_MAPPING)
    with pytest.raises(SamplewiseError, match=re.escape("per: ")):
        weight_samples("uniform()", per="row")
    assert before == TrainerFactory.TRAINER_MAPPING
