"""A training loop of one's own on accelerate: a small model of bytes on this project's documentation, weighted.

python examples/accelerate_loop.py FOLDER       # ends with a checkpoint there; run again, it resumes from it
torchrun --nproc_per_node 2 examples/accelerate_loop.py FOLDER
"""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM

from samplewise.data import PadCollator
from samplewise.trainers.loop import WeightedStep

RULE = "ir_dro(r=3.0)"  # a mild tilt towards the samples of high loss
LENGTH, ROWS, MICRO_BATCHES = 128, 4, 4

text = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.parent.glob("docs/*.md")))
ids = torch.tensor(list(text))
rows = [
    {"input_ids": ids[start : start + LENGTH], "labels": ids[start : start + LENGTH], "sample_id": start}
    for start in range(0, len(ids) - LENGTH, LENGTH)
]

set_seed(0)
accelerator = Accelerator()  # without gradient_accumulation_steps: a step is planned as a whole
config = LlamaConfig(
    vocab_size=256, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4
)  # fmt: skip
model = LlamaForCausalLM(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
loader = DataLoader(rows, ROWS, shuffle=True, drop_last=True, collate_fn=PadCollator(0))  # pyright: ignore
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
step = WeightedStep(model, RULE, accelerator=accelerator)
accelerator.register_for_checkpointing(step)

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
if folder is not None and folder.exists():
    accelerator.load_state(str(folder))

for micro_batches in zip(*[iter(loader)] * MICRO_BATCHES, strict=False):  # those of one optimizer step
    for micro in step.plan(micro_batches):
        step.backward(micro)
    figures = step.finish()
    accelerator.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    accelerator.print(
        f"step {step.engine.steps:2}: loss {figures['loss']:.3f}, ess {figures['ess']:.0%}, kept {figures['kept']:.0%}"
    )

if folder is not None:
    accelerator.save_state(str(folder))
accelerator.end_training()
