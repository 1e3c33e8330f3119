"""What `examples/axolotl.yml` trains on: a random model of 0.1 M parameters with its tokenizer, and 64 questions.

python examples/axolotl_tiny.py && axolotl train examples/axolotl.yml --launcher python
"""

import json
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

folder = Path("runs/axolotl")
folder.mkdir(parents=True, exist_ok=True)

numbers = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
numbers += ["thirteen", "fourteen"]
rows = [
    {"instruction": f"What is {numbers[a]} plus {numbers[b]}?", "input": "", "output": f"It is {numbers[a + b]}."}
    for a in range(8)
    for b in range(8)
]
rows[3]["output"] = "It is a hundred."  # one wrong answer: see its weight in runs/axolotl/samples
(folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

words = ByteLevelBPETokenizer()
words.train_from_iterator(
    (f"{row['instruction']} {row['output']}" for row in rows), vocab_size=400, special_tokens=["<pad>", "<s>", "</s>"]
)
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=words._tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
)
tokenizer.save_pretrained(folder / "tiny")

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
LlamaForCausalLM(config).save_pretrained(folder / "tiny")
print(f"{len(rows)} rows and a model in {folder}; now: axolotl train examples/axolotl.yml --launcher python")
