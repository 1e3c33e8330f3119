"""Lightning's Trainer, weighted: a small model of bytes on this project's documentation.

python examples/lightning_module.py
"""

from pathlib import Path

import torch
from lightning import LightningModule, Trainer  # pyright: ignore[reportMissingImports]
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM

from samplewise.data import PadCollator
from samplewise.trainers.lightning import WeightingCallback

LENGTH, ROWS, MICRO_BATCHES = 128, 4, 4

text = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.parent.glob("docs/*.md")))
ids = torch.tensor(list(text))
rows = [
    {"input_ids": ids[start : start + LENGTH], "labels": ids[start : start + LENGTH], "sample_id": start}
    for start in range(0, len(ids) - LENGTH, LENGTH)
]


class Weighted(LightningModule):
    """A causal language model whose samples are weighed by their losses."""

    def __init__(self) -> None:
        super().__init__()
        config = LlamaConfig(
            vocab_size=256, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4
        )  # fmt: skip
        self.model = LlamaForCausalLM(config).train()
        self.weighting = WeightingCallback("ir_dro(r=3.0)")

    def configure_callbacks(self):
        """The callback plans each step, and divides its gradient before clipping."""
        return [self.weighting]

    def training_step(self, batch, batch_idx):
        """The loss of a micro-batch; all of a step are run in its last one."""
        return self.weighting.loss(self.model, batch)

    def on_train_batch_end(self, *_) -> None:
        """Print the figures of a step."""
        figures = self.trainer.callback_metrics
        if (self.trainer.fit_loop.batch_idx + 1) % MICRO_BATCHES == 0:
            loss, ess, kept = (float(figures[f"samplewise/{name}"]) for name in ("loss", "ess", "kept"))
            print(f"step {self.trainer.global_step:2}: loss {loss:.3f}, ess {ess:.0%}, kept {kept:.0%}")

    def configure_optimizers(self):
        """As in every module."""
        return torch.optim.AdamW(self.parameters(), lr=5e-3)


torch.manual_seed(0)
trainer = Trainer(
    max_steps=40, accumulate_grad_batches=MICRO_BATCHES, gradient_clip_val=1.0, logger=False, log_every_n_steps=1,
    enable_checkpointing=False, enable_progress_bar=False,
)  # fmt: skip
trainer.fit(Weighted(), DataLoader(rows, ROWS, shuffle=True, collate_fn=PadCollator(0)))  # pyright: ignore
