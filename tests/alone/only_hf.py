"""The extra `hf`: the weighted Trainer."""

import tempfile

import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

from samplewise.data import PadCollator
from samplewise.trainers import WeightedTrainer

torch.manual_seed(0)
model = LlamaForCausalLM(
    LlamaConfig(vocab_size=37, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2)
)
rows = [{"input_ids": torch.arange(3, 9 + i % 3), "labels": torch.arange(3, 9 + i % 3)} for i in range(8)]
arguments = TrainingArguments(
    tempfile.mkdtemp(), use_cpu=True, report_to="none", save_strategy="no", max_steps=2, logging_steps=1,
    gradient_accumulation_steps=2, per_device_train_batch_size=2, disable_tqdm=True, dataloader_pin_memory=False,
    remove_unused_columns=False,
)  # fmt: skip
trainer = WeightedTrainer(model, arguments, train_dataset=rows, data_collator=PadCollator(0), rule="ir_dro(r=0.1)")
trainer.train()
log = [entry for entry in trainer.state.log_history if "samplewise/ess" in entry]
assert len(log) == 2
assert all(entry["samplewise/ess"] < 1 for entry in log)
