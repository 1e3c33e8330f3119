"""Good inputs, small, that attacks are made from: a model, a corpus, conversations, scores and a run file."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORDS = [f"w{i}" for i in range(60)]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
SMALL = ["--max-length", "32", "--min-tokens", "4"]


@dataclass(frozen=True)
class World:
    """The folder of each."""

    model: Path
    corpus: Path
    conversations: Path
    scores: Path


def build_world(folder: Path) -> World:
    """Everything, in seconds."""
    world = World(folder / "model", folder / "corpus.jsonl", folder / "chat.jsonl", folder / "scores")
    _model(world.model)
    lines(world.corpus, documents())
    lines(world.conversations, dialogues())
    from samplewise.corpus.score import score_corpus
    from samplewise.corpus.settings import Target

    target = Target(str(world.model), str(world.corpus), str(world.scores), None, "float32", False)
    score_corpus(target, say=lambda line: None, max_length=32, min_tokens=4, shard_bytes=1500)
    return world


def documents(count: int = 12) -> list[dict[str, Any]]:
    """Records of text."""
    dice = random.Random(0)
    return [{"text": " ".join(dice.choices(WORDS[: 5 + i], k=dice.randint(8, 40)))} for i in range(count)]


def dialogues(count: int = 6) -> list[dict[str, Any]]:
    """Records of messages."""
    dice = random.Random(1)

    def said() -> str:
        return " ".join(dice.choices(WORDS, k=5))

    return [
        {"messages": [{"role": role, "content": said()} for role in ("user", "assistant") * (1 + i % 2)]}
        for i in range(count)
    ]


def lines(path: Path, records: list[Any]) -> None:
    """JSON Lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def run_file(world: World, *, instructions: bool = False) -> dict[str, Any]:
    """What a good run file says."""
    text = {"path": str(world.corpus), "max_length": 32, "min_tokens": 4, "held_out": 0.3, "duplicates": "keep"}
    chat = {
        "kind": "instructions", "path": str(world.conversations), "max_length": 64, "held_out": 0.3,
        "chat_template": "plain",
    }  # fmt: skip
    return {
        "model": str(world.model), "data": chat if instructions else text, "rule": "ir_dro(r=1.0)", "output": "out",
        "per": "sample", "pool": 1, "max_nonfinite": 0.01, "lora": {"r": 2, "alpha": 4.0} if instructions else None,
        "training": {"learning_rate": 1e-3, "per_device_train_batch_size": 4, "max_steps": 1, "use_cpu": True,
                     "bf16": False, "seed": 3, "save_steps": 100},
    }  # fmt: skip


def _model(folder: Path) -> None:
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*SPECIAL, *WORDS])}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
