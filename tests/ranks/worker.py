"""One process of several: trains a tiny model in the Trainer and has rank 0 write what the optimizer saw.

    torchrun --nproc_per_node 2 tests/ranks/worker.py OUT RULE PER SPLIT DTYPE STEPS [bad]

SPLIT: the micro-batch sizes of each rank, "4,4" for one rank and "3|5" for two; the 8 rows are taken in order.
"""

import json
import math
import os
import sys
from itertools import accumulate, pairwise
from pathlib import Path

import tiny
import torch
from transformers import Trainer, TrainerCallback

from samplewise.trainers import WeightedMixin

out, rule, per, split, dtype, steps, *more = sys.argv[1:]
RANK = int(os.environ.get("RANK", "0"))


class Mine(Trainer):
    """Each rank's own micro-batches, of any sizes."""

    def get_train_dataloader(self):
        sizes = [[int(n) for n in part.split(",")] for part in split.split("|")]
        bounds = list(pairwise([0, *accumulate(n for part in sizes for n in part)]))
        first = sum(len(part) for part in sizes[:RANK])
        batches = [list(range(a, b)) for a, b in bounds[first : first + len(sizes[RANK])]]
        return torch.utils.data.DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator)


class Weighted(WeightedMixin, Mine):
    pass


class Gradients(TrainerCallback):
    steps: list

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps.append(torch.cat([p.grad.flatten().clone() for p in model.parameters()]))


class OneBadRow(tiny.Rows):
    def __init__(self, n):
        super().__init__(n)
        self.rows[5] = torch.cat([torch.tensor([2]), self.rows[5]])


class Sorted(tiny.Rows):
    """Rows 0 to 3 repeat a token: their losses are the highest, and all on the first rank."""

    def __init__(self, n):
        super().__init__(n)
        model, every = tiny.model("opt", dtype=torch.float64), tiny.Rows(40).rows
        with torch.no_grad():
            every.sort(key=lambda row: -float(model(row[None], labels=row[None]).loss))
        self.rows = every[:4] + every[-(n - 4) :]


seen = Gradients()
ran = []
model = tiny.model("opt", dtype=getattr(torch, dtype), tie_word_embeddings=False)
if "bad" in more:
    with torch.no_grad():
        model.get_input_embeddings().weight[2] = math.inf
clip = 0.5 if "train" in more else 0.0
args = tiny.arguments(
    out, max_steps=int(steps), gradient_accumulation_steps=len(split.split("|")[0].split(",")), max_grad_norm=clip,
    learning_rate=1e-3 if "train" in more else 0.0, num_train_epochs=100, ddp_find_unused_parameters=False,
)  # fmt: skip
trainer = Weighted(
    model, args,
    train_dataset=(OneBadRow if "bad" in more else Sorted if "sorted" in more else tiny.Rows)(8),
    data_collator=tiny.collate, rule=rule, per=per, max_nonfinite=0.2, callbacks=[seen],
)  # fmt: skip
model.get_input_embeddings().register_forward_hook(
    lambda module, inputs, output: ran.append(len(output)) if torch.is_grad_enabled() else None
)
trainer.train()
local = os.environ.get("LOCAL_RANK", "0")
print(f"rank {RANK}, local rank {local}, trained on micro-batches of {ran}", flush=True)
history = [entry for entry in trainer.state.log_history if "loss" in entry]
if RANK == 0:
    Path(out).mkdir(parents=True, exist_ok=True)
    torch.save(
        {"gradients": seen.steps, "parameters": [p.detach() for p in trainer.model.parameters()]}, f"{out}/tensors.pt"
    )
    Path(out, "history.json").write_text(json.dumps(history))
if torch.distributed.is_initialized():  # torch's threads now and then abort a process that is torn down
    torch.distributed.barrier()
    sys.stdout.flush()
    os._exit(0)
