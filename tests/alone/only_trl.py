"""The extra `trl`: TRL's trainer on weighted conversations."""

import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig

from samplewise.trainers.trl import WeightedSFTTrainer

words = ["<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(30))]
backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
torch.manual_seed(0)
model = LlamaForCausalLM(
    LlamaConfig(vocab_size=33, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2)
)
rows = [{"prompt": f"w{i} w{i + 1}", "completion": f" w{i + 2} w{i + 3}"} for i in range(8)]
config = SFTConfig(
    tempfile.mkdtemp(), use_cpu=True, report_to="none", save_strategy="no", max_steps=2, logging_steps=1, bf16=False,
    gradient_accumulation_steps=2, per_device_train_batch_size=2, disable_tqdm=True, dataloader_pin_memory=False,
)  # fmt: skip
trainer = WeightedSFTTrainer(
    model, config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, rule="ir_dro(r=0.1)"
)
trainer.train()
log = [entry for entry in trainer.state.log_history if "samplewise/ess" in entry]
assert len(log) == 2
assert all(entry["samplewise/ess"] < 1 for entry in log)
