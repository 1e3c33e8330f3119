"""Preference pairs in TRL's trainer, weighted: Dr. DPO on a few pairs, one in four the wrong way round.

python examples/dpo_pairs.py
"""

import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig

from samplewise.trainers.dpo import WeightedDPOTrainer

RULE = "ir_dro(r=-0.5)"  # the gradient of −0.5·log mean exp(−loss / 0.5): pairs of high loss count less
GOOD, BAD = ["the sun is warm", "the sea is wide", "the hill is green"], ["the sun is gone", "no sea", "hill hill"]

pairs = [
    {"prompt": prompt, "chosen": f" {good}", "rejected": f" {bad}"}
    for prompt in ("say", "tell me", "write", "sing")
    for good, bad in zip(GOOD, BAD, strict=True)
]
for pair in pairs[::4]:
    pair["chosen"], pair["rejected"] = pair["rejected"], pair["chosen"]

words = sorted({word for pair in pairs for text in pair.values() for word in text.split()})
vocabulary = {word: i for i, word in enumerate(["<pad>", "<unk>", "</s>", *words])}
backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # a model of your own brings its tokenizer
backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
)  # fmt: skip
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
)  # fmt: skip
model = LlamaForCausalLM(config)
reference = LlamaForCausalLM(config)
reference.load_state_dict(model.state_dict())

with tempfile.TemporaryDirectory() as folder:
    args = DPOConfig(
        folder, per_device_train_batch_size=3, gradient_accumulation_steps=4, max_steps=12, learning_rate=3e-3,
        logging_steps=1, report_to="none", save_strategy="no", disable_tqdm=True, use_cpu=True, bf16=False,
    )  # fmt: skip
    trainer = WeightedDPOTrainer(
        model, reference, args, train_dataset=Dataset.from_list(pairs), processing_class=tokenizer, rule=RULE
    )
    trainer.train()

for row in trainer.state.log_history[:-1]:
    said = f"loss {row['loss']:.3f}, ess {row['samplewise/ess']:.0%}, margin {row['rewards/margins']:.3f}"
    print(f"step {row['step']:2}: {said}")
