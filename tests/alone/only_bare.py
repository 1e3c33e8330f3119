"""torch and numpy: weights, rules and the kernel without logits."""

import torch

import samplewise as sw
from samplewise.losses import kernels
from samplewise.rules import RULES

weights = sw.weights(sw.ir_dro(r=1.0), [1.0, 2.0, 3.0, 4.0]).float()
torch.testing.assert_close(weights, torch.tensor([1.0, 2.0, 3.0, 4.0]).softmax(0) * 4)
assert len(RULES) > 20

hidden, head, labels = torch.randn(2, 5, 8), torch.randn(17, 8), torch.randint(0, 17, (2, 5))
losses, tokens = kernels.sample_losses(hidden, head, labels)
logits = (hidden[:, :-1] @ head.T).flatten(0, 1)
want = torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="none").view(2, 4).mean(1)
torch.testing.assert_close(losses, want)
assert tokens.tolist() == [4, 4]
