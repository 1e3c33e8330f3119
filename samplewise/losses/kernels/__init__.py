"""Sample losses, and Σ u_i L_i with its gradient, from hidden states and the head, without logits.

api            `sample_losses`, `score` and `objective`: one signature, an explicit backend
reference      the oracle: logits, slow and obvious
chunked        the product: losses and gradients together, chunk by chunk, in the forward
torch_backend  torch core's linear_cross_entropy
liger_backend  Liger's, where it is installed
autograd       the chunked backend as autograd sees it
inputs         the arguments and their checks
targets        predicted positions, their labels and samples
selection      token weights that follow from token losses
plan           which positions form a chunk
backends       which of them computes: asked for, or the best of the device
fallbacks      that the best cannot be used is said once, and counted
residual       a chunk's logits to losses and p − one-hot
residual_triton  the same in one Triton kernel
tally          entropy and correctness of tokens, for logs
gradients      the head's gradient, in fp32
products       products of 16-bit matrices in fp32, where torch has them
vocabulary     the same losses of a head whose rows are split over ranks
"""

from samplewise.losses.kernels.api import Objective, Scores, objective, sample_losses, score
from samplewise.losses.kernels.backends import Backend
from samplewise.losses.kernels.inputs import Factor, Select
from samplewise.losses.kernels.tally import Tally
from samplewise.losses.kernels.vocabulary import Shard

__all__ = [
    "Backend",
    "Factor",
    "Objective",
    "Scores",
    "Select",
    "Shard",
    "Tally",
    "objective",
    "sample_losses",
    "score",
]
