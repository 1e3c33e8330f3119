"""torch and numpy: a loop of one's own over a model that is no transformers model."""

from types import SimpleNamespace

import torch

from samplewise.trainers import WeightedStep


class Model(torch.nn.Module):
    """The least that a causal language model can be."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(17, 8), torch.nn.Linear(8, 17, bias=False)

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids, attention_mask=None, **unused):
        return SimpleNamespace(logits=self.head(self.embed(input_ids)))


torch.manual_seed(0)
model = Model()
step, optimizer = WeightedStep(model, "ir_dro(r=1.0)"), torch.optim.SGD(model.parameters(), lr=1.0)
losses = []
for _ in range(8):
    rows = torch.randint(0, 17, (4, 6), generator=torch.Generator().manual_seed(0))
    batches = [{"input_ids": rows, "labels": rows, "sample_id": torch.arange(4) + first} for first in (0, 4)]
    for micro in step.plan(batches):
        step.backward(micro)
    losses.append(step.finish()["loss"])
    optimizer.step()
    optimizer.zero_grad()
assert losses[-1] < losses[0] - 0.2, losses
