"""A training loop of one's own on bare PyTorch: a small model of bytes on this project's documentation, weighted.

python examples/torch_loop.py
torchrun --nproc_per_node 2 examples/torch_loop.py
"""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
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

distributed = "RANK" in os.environ  # torchrun
if distributed:
    dist.init_process_group("gloo")
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=256, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4
)  # fmt: skip
model = LlamaForCausalLM(config)
model = DistributedDataParallel(model) if distributed else model
sampler = DistributedSampler(rows, drop_last=True) if distributed else None  # pyright: ignore[reportArgumentType]
loader = DataLoader(
    rows, ROWS, shuffle=not distributed, sampler=sampler, drop_last=True, collate_fn=PadCollator(0)  # pyright: ignore
)  # fmt: skip
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
step = WeightedStep(model, RULE)

for micro_batches in zip(*[iter(loader)] * MICRO_BATCHES, strict=False):  # those of one optimizer step
    for micro in step.plan(micro_batches):
        step.backward(micro)
    figures = step.finish()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    if not distributed or dist.get_rank() == 0:
        said = f"loss {figures['loss']:.3f}, ess {figures['ess']:.0%}, kept {figures['kept']:.0%}"
        print(f"step {step.engine.steps:2}: {said}")

if distributed:
    dist.barrier()
    dist.destroy_process_group()
