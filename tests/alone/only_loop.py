"""torch and numpy: a loop of one's own over a model that is no transformers model."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F

from samplewise.trainers import WeightedStep


class Body(torch.nn.Module):
    """One embedding: the least that the body of a language model can be."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(17, 8)

    def forward(self, input_ids, **unused):
        return SimpleNamespace(last_hidden_state=self.embed(input_ids))


class Model(torch.nn.Module):
    """What a causal language model of transformers has, and is read here."""

    def __init__(self):
        super().__init__()
        self.config, self.base_model = SimpleNamespace(), Body()
        self.head = torch.nn.Linear(8, 17, bias=False)

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids, labels=None, **unused):
        logits = self.head(self.base_model(input_ids).last_hidden_state)
        loss = None if labels is None else F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return SimpleNamespace(logits=logits, loss=loss)


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
