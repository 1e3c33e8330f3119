"""Tiny random models and data of every kind the trainer tests need."""

import torch
import transformers
from torch.utils.data import Dataset
from transformers import PreTrainedModel, TrainingArguments

from samplewise.core.errors import SamplewiseError

VOCABULARY = 37
CHECKPOINTING = (  # as transformers calls it since 5.23
    "activation_checkpointing" if hasattr(TrainingArguments, "activation_checkpointing") else "gradient_checkpointing"
)


def model(kind: str = "llama", *, dtype: torch.dtype = torch.float32, seed: int = 0, **options) -> PreTrainedModel:
    torch.manual_seed(seed)
    common = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    configs = {
        "llama": lambda: transformers.LlamaConfig(
            hidden_size=16, intermediate_size=24, num_attention_heads=2, **{"num_hidden_layers": 2, **common, **options}
        ),
        "opt": lambda: transformers.OPTConfig(
            hidden_size=16, ffn_dim=24, num_hidden_layers=2, num_attention_heads=2, word_embed_proj_dim=16,
            max_position_embeddings=64, **{"dropout": 0.0, **common, **options},
        ),
        "gpt2": lambda: transformers.GPT2Config(
            n_embd=16, n_layer=2, n_head=2, n_positions=64,
            **{"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, **common, **options},
        ),
    }  # fmt: skip
    return transformers.AutoModelForCausalLM.from_config(configs[kind]()).to(dtype)


def without_plain_head(monkeypatch) -> None:
    """No head is found on any model: with `logits="allow"` losses come from logits."""

    def none(model, *args):
        raise SamplewiseError("model", expected="a plain nn.Linear as output embedding", got="none in this test")

    monkeypatch.setattr("samplewise.losses.attach.find_head", none)


class Rows(Dataset):
    """Random rows of different lengths; loss differs between them since the first tokens repeat in some."""

    def __init__(self, n: int = 24, *, min_length: int = 3, max_length: int = 12, seed: int = 1) -> None:
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(min_length, max_length + 1, (n,), generator=generator).tolist()
        self.rows = [torch.randint(3, VOCABULARY, (length,), generator=generator) for length in lengths]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


def collate(features: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Right-padded rows, attention by length."""
    width = max(len(f["input_ids"]) for f in features)
    batch = {key: [] for key in ("input_ids", "attention_mask", "labels")}
    for f in features:
        missing = width - len(f["input_ids"])
        for key, value, fill in (
            ("input_ids", f["input_ids"], 0),
            ("attention_mask", torch.ones_like(f["input_ids"]), 0),
            ("labels", f["labels"], -100),
        ):
            batch[key].append(torch.nn.functional.pad(value, (0, missing), value=fill))
    return {key: torch.stack(values) for key, values in batch.items()}


def arguments(tmp_path, **options) -> TrainingArguments:
    defaults = {
        "output_dir": str(tmp_path), "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1,
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_steps": 2, "learning_rate": 1e-2,
        "disable_tqdm": True, "lr_scheduler_type": "linear", "seed": 3, "dataloader_pin_memory": False,
    }  # fmt: skip
    return TrainingArguments(**{**defaults, **options})
