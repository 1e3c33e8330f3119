"""Token and sample losses against a loop over plain floats, and their gradient against that loop's."""

import math

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.losses.token_losses import token_counts, token_losses


def loop(logits: Tensor, labels: Tensor) -> tuple[list[list[float]], list[float], list[int]]:
    """Token losses, sample losses and counts, one number at a time in fp64."""
    token, sample, counts = [], [], []
    for row in range(labels.shape[0]):
        losses, count = [], 0
        for position in range(labels.shape[1] - 1):
            label = int(labels[row, position + 1])
            if label == -100:
                losses.append(0.0)
                continue
            scores = [float(x) for x in logits[row, position]]
            top = max(scores)
            losses.append(top + math.log(sum(math.exp(x - top) for x in scores)) - scores[label])
            count += 1
        token.append(losses)
        sample.append(sum(losses) / count if count else 0.0)
        counts.append(count)
    return token, sample, counts


def differentiable(logits: Tensor, labels: Tensor) -> list[Tensor]:
    """Sample losses by the same loop, for autograd."""
    out = []
    for row in range(labels.shape[0]):
        terms = [
            -torch.log_softmax(logits[row, position], -1)[labels[row, position + 1]]
            for position in range(labels.shape[1] - 1)
            if labels[row, position + 1] != -100
        ]
        out.append(torch.stack(terms).mean() if terms else logits.new_zeros(()))
    return out


def made(b: int, t: int, v: int, masked: float, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, v, (b, t), generator=generator)
    labels[torch.rand(b, t, generator=generator) < masked] = -100
    return torch.randn(b, t, v, generator=generator, dtype=torch.float64) * 4, labels


shapes = (st.integers(1, 4), st.integers(1, 6), st.integers(1, 9))


@settings(max_examples=60, deadline=None)
@given(*shapes, st.sampled_from([0.0, 0.4, 0.9, 1.0]), st.integers(0, 1000))
def test_equal_to_the_loop(b, t, v, masked, seed):
    logits, labels = made(b, t, v, masked, seed)
    token, sample, counts = loop(logits, labels)
    assert token_counts(labels).tolist() == counts
    per_token = token_losses(logits, labels)
    assert per_token.shape == (b, t - 1)
    torch.testing.assert_close(per_token, torch.tensor(token, dtype=torch.float64).view(b, t - 1))
    losses, tokens = sw.sample_losses(logits, labels)
    torch.testing.assert_close(losses, torch.tensor(sample, dtype=torch.float64))
    assert tokens.tolist() == counts
    assert tokens.dtype == torch.int64


def test_the_gradient_is_that_of_the_loop():
    logits, labels = made(4, 6, 9, 0.4, seed=5)
    labels[2] = -100
    upstream = torch.tensor([0.5, -1.0, 7.0, 2.0], dtype=torch.float64)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    (sw.sample_losses(ours, labels)[0] * upstream).sum().backward()
    (torch.stack(differentiable(theirs, labels)) * upstream).sum().backward()
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-14)
    assert (ours.grad[2] == 0).all(), "a row that predicts nothing has no gradient"
    assert (ours.grad[:, -1] == 0).all(), "the last position predicts nothing"


def test_the_loss_is_that_of_transformers():
    """The host's own loss is the mean over all predicted tokens of these token losses."""
    model = tiny.model(dtype=torch.float64).eval()
    ids = torch.randint(3, tiny.VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[0, 4:] = -100
    with torch.no_grad():
        out = model(input_ids=ids, labels=labels)
    losses, tokens = sw.sample_losses(out.logits, labels)
    assert float((losses * tokens).sum() / tokens.sum()) == pytest.approx(float(out.loss), rel=1e-6)


def test_an_empty_row_is_loss_and_count_zero_whatever_its_logits():
    logits = torch.randn(3, 4, 5)
    logits[1] = math.nan
    labels = torch.randint(0, 5, (3, 4))
    labels[1, 1:] = -100
    losses, tokens = sw.sample_losses(logits, labels)
    assert tokens.tolist() == [3, 0, 3]
    assert losses[1] == 0
    assert torch.isfinite(losses).all()


def test_a_masked_position_does_not_reach_the_loss():
    logits, labels = made(2, 6, 9, 0.0, seed=1)
    labels[:, 3] = -100
    before = sw.sample_losses(logits, labels)[0]
    logits[:, 2] = 1e3
    assert torch.equal(sw.sample_losses(logits, labels)[0], before)


def test_a_non_finite_row_stays_alone():
    """What lets one row be left out: the others' losses are as they were."""
    logits, labels = made(3, 5, 6, 0.0, seed=2)
    clean = sw.sample_losses(logits, labels)[0]
    logits[1, 2, 3] = math.nan
    losses = sw.sample_losses(logits, labels)[0]
    assert losses[1].isnan()
    assert torch.equal(losses[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_give_fp32_losses(dtype):
    logits, labels = made(3, 5, 9, 0.2, seed=3)
    half = logits.to(dtype)
    losses, _ = sw.sample_losses(half, labels)
    assert losses.dtype == token_losses(half, labels).dtype == torch.float32
    torch.testing.assert_close(losses.double(), torch.tensor(loop(half.double(), labels)[1]).double())
    leaf = half.clone().requires_grad_()
    sw.sample_losses(leaf, labels)[0].sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_precisions_stay(dtype):
    logits, labels = made(2, 3, 4, 0.0, seed=4)
    assert sw.sample_losses(logits.to(dtype), labels)[0].dtype == dtype


@pytest.mark.parametrize("label", [9, 10**6, -1, -99, -101])
def test_labels_outside_the_vocabulary(label):
    logits, labels = made(2, 4, 9, 0.3, seed=0)
    labels[1, 2] = label
    with pytest.raises(SamplewiseError, match=r"^labels: expected token ids below the vocabulary's 9, or −100, got "):
        sw.sample_losses(logits, labels)


def test_the_first_label_is_not_a_target():
    logits, labels = made(2, 4, 9, 0.0, seed=0)
    before = sw.sample_losses(logits, labels)
    labels[:, 0] = -100
    after = sw.sample_losses(logits, labels)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


@pytest.mark.parametrize(
    ("logits", "labels"), [((2, 4), (2, 4)), ((2, 4, 5), (2, 3)), ((2, 4, 5), (8,)), ((3, 4, 5), (2, 4))]
)
def test_shapes_that_do_not_fit(logits, labels):
    with pytest.raises(SamplewiseError, match=r"^logits, labels: expected shapes \[B, T, V\] and \[B, T\]"):
        sw.sample_losses(torch.zeros(logits), torch.zeros(labels, dtype=torch.int64))
