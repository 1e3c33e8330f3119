"""IR-DRO against its definition: the closed form, its limits, its optimality, and autograd's gradient."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.samples import as_samples

losses = st.lists(st.floats(0, 20), min_size=2, max_size=20)
temperatures = st.sampled_from([0.3, 1.0, 2.5, 10.0])
quick = settings(max_examples=60, deadline=None)


def shares(r: float, loss: list[float]) -> Tensor:
    """p of IR-DRO: sums to 1."""
    return sw.weights(sw.ir_dro(r=r), torch.tensor(loss, dtype=torch.float64)) / len(loss)


def test_by_hand():
    torch.testing.assert_close(
        shares(1.0, [1, 2, 3, 4]), torch.tensor([0.032, 0.087, 0.237, 0.644]).double(), atol=5e-4, rtol=0
    )


@quick
@given(losses, temperatures, st.floats(-1e3, 1e3))
def test_shift_invariant(loss, r, shift):
    torch.testing.assert_close(shares(r, [x + shift for x in loss]), shares(r, loss), rtol=1e-9, atol=1e-15)


@quick
@given(losses, temperatures, st.floats(0.1, 100))
def test_only_loss_over_r_matters(loss, r, scale):
    torch.testing.assert_close(shares(r * scale, [x * scale for x in loss]), shares(r, loss), rtol=1e-9, atol=1e-15)


@quick
@given(losses, temperatures)
def test_monotone(loss, r):
    p = shares(r, loss)
    order = torch.tensor(loss, dtype=torch.float64).argsort()
    assert (p[order].diff() >= 0).all()
    low, high = min(loss), max(loss)
    if high - low > 1e-6:
        assert p[loss.index(high)] > p[loss.index(low)]


def test_a_large_r_is_uniform():
    torch.testing.assert_close(shares(1e9, [0.0, 3.0, 9.0]), torch.full((3,), 1 / 3).double(), rtol=1e-7, atol=0)


@pytest.mark.parametrize("r", [1e-3, 1e-8, 1e-300])
def test_a_small_r_is_the_maximum_and_ties_share_it(r):
    assert shares(r, [1.0, 3.0, 2.0]).tolist() == [0.0, 1.0, 0.0]
    assert shares(r, [1.0, 3.0, 3.0, 2.0]).tolist() == [0.0, 0.5, 0.5, 0.0]


@quick
@given(losses, temperatures, st.integers(0, 2**32))
def test_it_solves_the_problem_that_defines_it(loss, r, seed):
    """No p of the simplex has a larger Σ p_i L_i − r·KL(p ‖ uniform), and the maximum is r·log mean exp(L / r)."""
    L = torch.tensor(loss, dtype=torch.float64)
    n = len(loss)

    def value(p: Tensor) -> float:
        return float((p * L).sum() - r * torch.xlogy(p, p * n).sum())

    best = value(shares(r, loss))
    assert best == pytest.approx(r * float(torch.logsumexp(L / r, 0) - math.log(n)), rel=1e-9, abs=1e-9)
    generator = torch.Generator().manual_seed(seed)
    for sharpness in (0.1, 1.0, 5.0):
        other = torch.softmax(torch.randn(n, generator=generator, dtype=torch.float64) * sharpness, 0)
        assert value(other) <= best + 1e-9


class Tiny(nn.Module):
    """Bigrams with one hidden layer."""

    def __init__(self, vocabulary: int = 11) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 6)
        self.inner = nn.Linear(6, 6)
        self.head = nn.Linear(6, vocabulary, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.inner(self.embed(ids))))


def gradients(model: nn.Module) -> list[Tensor]:
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return found


@pytest.mark.parametrize("r", [0.05, 0.3, 1.0, 10.0])
def test_the_gradient_is_that_of_the_tilted_loss(r):
    """Danskin: Σ p_i ∇L_i with p held constant is autograd's gradient of r·log mean exp(L / r), which moves p too."""
    torch.manual_seed(0)
    model = Tiny().double()
    ids = torch.randint(0, 11, (9, 8))
    labels = ids.clone()
    for row in range(9):
        labels[row, 3 + row % 5 :] = -100

    def sample_losses() -> tuple[Tensor, Tensor]:
        return sw.sample_losses(model(ids) * 3, labels)

    loss, tokens = sample_losses()
    assert loss.std() > 0.1, "equal losses would prove nothing"
    plan = sw.plan_step(sw.ir_dro(r=r), as_samples(loss, tokens), sw.ir_dro(r=r).init())
    (plan.coefficients * loss).sum().backward()
    ours = gradients(model)
    loss, _ = sample_losses()
    (r * (torch.logsumexp(loss / r, 0) - math.log(9))).backward()
    theirs = gradients(model)
    loss, _ = sample_losses()
    loss.mean().backward()
    plain = gradients(model)
    assert len(ours) == 4
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    if r <= 1:
        assert any((a - b).abs().max() > 1e-3 for a, b in zip(ours, plain, strict=True))


def test_the_tilt_learns_its_shift_from_the_step_before():
    rule, loss = sw.ir_dro(r=0.5), torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    state = sw.plan_step(rule, as_samples(loss), rule.init()).state
    assert state["shift"] == pytest.approx(0.5 * float(torch.logsumexp(loss / 0.5, 0) - math.log(3)))
    assert rule.factor is not None
    factor = rule.factor(as_samples(loss), state)
    assert float(factor.mean()) == pytest.approx(1), "the same losses again: factors of mean 1"


def test_two_tilts_are_one():
    """exp(L / r)·exp(L / s) = exp(L / (rs / (r + s)))."""
    loss = torch.tensor([0.3, 2.0, 1.1, 5.0], dtype=torch.float64)
    both = sw.weights(sw.chain(sw.ir_dro(r=1.0), sw.ir_dro(r=3.0)), loss)
    torch.testing.assert_close(both, sw.weights(sw.ir_dro(r=0.75), loss), rtol=1e-12, atol=0)


def test_uniform_weighs_all_alike_and_scores_nothing():
    assert sw.weights(sw.uniform(), [3.0, 1.0, 2.0]).tolist() == [1.0, 1.0, 1.0]
    assert not sw.uniform().needs_loss
    assert sw.ir_dro().needs_loss


@pytest.mark.parametrize("r", [0, -0.0, -math.inf, math.inf, math.nan, "1", True, pytest.param(10**400, id="no float")])
def test_a_temperature_is_a_finite_number_other_than_zero(r):
    with pytest.raises(SamplewiseError, match=r"^r: expected a finite temperature other than 0"):
        sw.ir_dro(r=r)


def test_gradient_needs_no_second_derivative():
    """A loss that is a leaf: the coefficients are constants of it."""
    logits = torch.randn(5, 4, 7, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 7, (5, 4))
    loss, tokens = sw.sample_losses(logits, labels)
    plan = sw.plan_step(sw.ir_dro(), as_samples(loss, tokens), sw.ir_dro().init())
    (grad,) = torch.autograd.grad((plan.coefficients * loss).sum(), logits)
    by_hand = torch.softmax(logits[:, :-1], -1) - F.one_hot(labels[:, 1:], 7)
    torch.testing.assert_close(grad[:, :-1], by_hand * plan.coefficients[:, None, None] / 3)
    assert (grad[:, -1] == 0).all()


# ---- the data's own weights ----


def test_column_weights_are_the_datas_and_multiply():
    loss, weight = [1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 0.0, 5.0]
    alone = sw.weights(sw.column_weights(), loss, weight=weight)
    assert alone.tolist() == pytest.approx([1.0, 0.5, 0.0, 2.5])
    both = sw.weights(sw.chain(sw.column_weights(), sw.ir_dro(r=2.0)), loss, weight=weight)
    expected = np.array(weight) * np.exp(np.array(loss) / 2)
    np.testing.assert_allclose(both.numpy(), 4 * expected / expected.sum())


def test_column_weights_that_are_not_there_or_not_weights():
    with pytest.raises(SamplewiseError, match=r"^weight: expected samples with this field.*column sample_weight"):
        sw.weights(sw.chain(sw.ir_dro(), sw.column_weights()), [1.0, 2.0])
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(SamplewiseError, match="finite"):
            sw.weights(sw.column_weights(), [1.0, 2.0], weight=[1.0, bad])
