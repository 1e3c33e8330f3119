"""What `examples/llamafactory.yaml` trains on: a random model of 0.1 M parameters with its tokenizer, and 64 questions.

python examples/llamafactory_tiny.py && python -m samplewise.trainers.llamafactory examples/llamafactory.yaml
"""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

FOLDER = Path("runs/llamafactory")
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows = [{"instruction": f"What is {a} + {b}?", "output": f"It is {a + b}."} for a in range(8) for b in range(8)]
    (FOLDER / "rows.json").write_text(json.dumps(rows))
    info = {"rows": {"file_name": "rows.json", "columns": {"prompt": "instruction", "response": "output"}}}
    (FOLDER / "dataset_info.json").write_text(json.dumps(info))
    known = [*SPECIAL.values(), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    characters = Tokenizer(models.BPE({token: i for i, token in enumerate(known)}, [], unk_token="<unk>"))
    characters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=characters, **SPECIAL).save_pretrained(FOLDER / "tiny")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(known), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(FOLDER / "tiny")


if __name__ == "__main__":
    main()
