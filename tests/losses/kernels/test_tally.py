"""Entropy and correctness of tokens against a plain softmax in fp64, in every pass that can be asked for them."""

import pytest
import torch

from samplewise.core.errors import SamplewiseError
from samplewise.losses.kernels import Tally, objective, sample_losses, score


def case(dtype=torch.float32, **options):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 9, 8, generator=generator, dtype=torch.float64)
    head = torch.randn(21, 8, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 21, (3, 9), generator=generator)
    labels[0, 3:6] = -100
    return hidden.to(dtype), head.to(dtype), labels, options


def expected(hidden, head, labels, softcap=None, scale=1.0, bias=None):
    logits = hidden.double() @ head.double().T
    logits = (logits if bias is None else logits + bias.double()) * scale
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    log_p = logits.log_softmax(-1)[:, :-1]
    target = labels[:, 1:]
    known = target != -100
    entropy = -(log_p.exp() * log_p).sum(-1)[known].sum()
    return float(entropy), int((log_p.argmax(-1) == target)[known].sum()), int(known.sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", [{}, {"softcap": 3.0}, {"scale": 0.5}, {"bias": torch.linspace(-1, 1, 21)}])
@pytest.mark.parametrize("pass_", ["score", "known", "asked", "small chunks"])
def test_against_a_plain_softmax(dtype, options, pass_):
    hidden, head, labels, _ = case(dtype)
    options = {k: v.to(dtype) if isinstance(v, torch.Tensor) else v for k, v in options.items()}
    tally = Tally()
    for _ in range(2):  # two forwards add up
        if pass_ == "score":
            score(hidden, head, labels, tally=tally, **options)
        else:
            factors = torch.ones(3) if pass_ == "known" else lambda loss, tokens, index: torch.exp(loss)
            size = 3 * 21 * dtype.itemsize if pass_ == "small chunks" else None
            objective(hidden.requires_grad_(), head, labels, factors, tally=tally, chunk_bytes=size, **options)
    entropy, correct, tokens = expected(hidden.detach(), head, labels, **options)
    assert (tally.correct, tally.tokens) == (2 * correct, 2 * tokens)
    assert tally.entropy == pytest.approx(2 * entropy, rel=1e-5 if dtype == torch.float32 else 1e-12)


def test_nothing_else_changes():
    hidden, head, labels, _ = case()
    plain, counted = (hidden.clone().requires_grad_() for _ in range(2))
    for each, tally in ((plain, None), (counted, Tally())):
        objective(each, head, labels, lambda loss, tokens, index: torch.exp(loss), tally=tally).value.backward()
    assert torch.equal(plain.grad, counted.grad)
    assert torch.equal(sample_losses(hidden, head, labels)[0], score(hidden, head, labels, tally=Tally()).loss)


def test_a_far_token_has_no_entropy():
    """A certain prediction, right or wrong: probabilities of 0 and 1, logits of thousands."""
    hidden, head = torch.tensor([[[3000.0], [3000.0], [0.0]]]), torch.tensor([[1.0], [-1.0]])
    tally = Tally()
    score(hidden, head, torch.tensor([[0, 0, 1]]), tally=tally)
    assert (tally.entropy, tally.correct, tally.tokens) == (0.0, 1, 2)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_other_backends_refuse(backend):
    hidden, head, labels, _ = case()
    with pytest.raises(SamplewiseError, match='tally: expected backend="chunked"'):
        score(hidden, head, labels, tally=Tally(), backend=backend)
