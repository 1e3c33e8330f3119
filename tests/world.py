"""What a run needs, small: a random model saved with a tokenizer of words, a corpus, and a run file."""

import contextlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import tiny
import torch
import transformers
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers

from samplewise.cli.app import app

WORDS = [f"w{i}" for i in range(60)]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]


def save_model(folder: Path, kind: str = "llama", layers: int = 2) -> Path:
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    if kind == "opt":
        config = transformers.OPTConfig(
            vocab_size=64, hidden_size=16, ffn_dim=24, num_hidden_layers=2, num_attention_heads=2,
            word_embed_proj_dim=16, max_position_embeddings=512, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        )  # fmt: skip
        torch.manual_seed(0)
        transformers.OPTForCausalLM(config).save_pretrained(folder)
    else:
        tiny.model(kind, vocab_size=64, max_position_embeddings=128, num_hidden_layers=layers).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_corpus(path: Path, documents: int = 120, least: int = 20, most: int = 80) -> Path:
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS[: 5 + i % 50], k=draw.randint(least, most))) for i in range(documents)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def write_run(path: Path, model: Path, corpus: Path, output: Path, **changes) -> Path:
    values = {
        "model": str(model),
        "data": {"path": str(corpus), "max_length": 32, "min_tokens": 4, "held_out": 0.15},
        "rule": "chain(band(drop_top=0.25), ir_dro(r=1.0))",
        "training": {
            "learning_rate": 1e-2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_steps": 20,
            "save_steps": 100, "bf16": False, "use_cpu": True, "seed": 3,
        },
        "output": str(output),
    }  # fmt: skip
    path.write_text(yaml.safe_dump({**values, **changes}))
    return path


ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": "default", "OMP_NUM_THREADS": "1"}
ROOT = Path(__file__).parent.parent


def samplewise(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in this process: what it does without the seconds that imports take."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app([str(argument) for argument in arguments], prog_name="samplewise")
        except SystemExit as exit:
            code = int(exit.code or 0)
    return subprocess.CompletedProcess([], code, out.getvalue(), err.getvalue())


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command as a user starts it."""
    command = [sys.executable, "-m", "samplewise", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT, timeout=120)


def interrupted(*arguments: object, after: str) -> subprocess.CompletedProcess[str]:
    """The command, with one SIGINT as soon as `after` stands on its stderr."""
    command = [sys.executable, "-m", "samplewise", *map(str, arguments)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT
    )
    seen = []
    assert process.stderr is not None
    for line in process.stderr:
        seen.append(line)
        if after in line:
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(command, process.returncode, out, "".join(seen) + err)
