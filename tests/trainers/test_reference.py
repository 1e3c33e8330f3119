"""A second model in the trainer: excess losses and selected tokens, against loops over the two models' logits."""

import pytest
import tiny
import torch
from test_step_in_trainer import Gradients, WeightedSplit
from test_trl import conversations, trained

import samplewise as sw
from samplewise.trainers import WeightedTrainer

KEEP = 0.4


def reference():
    return tiny.model("gpt2", seed=9)


def run(tmp_path, sizes, rule, steps=2, dtype=torch.float64, **options):
    seen = Gradients()
    args = tiny.arguments(
        tmp_path, gradient_accumulation_steps=len(sizes), max_steps=steps, learning_rate=0.0, max_grad_norm=0.0,
        per_device_train_batch_size=2,
    )  # fmt: skip
    trainer = WeightedSplit(
        tiny.model("opt", dtype=dtype), args, train_dataset=tiny.Rows(8, min_length=5), data_collator=tiny.collate,
        rule=rule, callbacks=[seen], **{"reference_model": reference().to(dtype), **options},
    )  # fmt: skip
    trainer.sizes = sizes
    trainer.train()
    return trainer, seen.steps


def token_losses(model, row):
    logits = model(row[None]).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits, row[1:], reduction="none")


def expected(rule, scope, per):
    """The gradient of the step by an obvious loop: tokens, then samples, then one mean."""
    model, other = tiny.model("opt", dtype=torch.float64), reference().double()  # Llama's norm is in fp32
    rows = tiny.Rows(8, min_length=5).rows
    losses = [token_losses(model, row) for row in rows]
    with torch.no_grad():
        theirs = [token_losses(other, row) for row in rows]
    excess = [(a - b).detach() for a, b in zip(losses, theirs, strict=True)]
    if scope == "sample":
        kept = [e >= e.sort(descending=True).values[max(1, int(KEEP * len(e))) - 1] for e in excess]
    elif scope == "step":
        every = torch.cat(excess)
        least = every.sort(descending=True).values[int(KEEP * len(every)) - 1]
        kept = [e >= least for e in excess]
    else:
        kept = [torch.ones_like(e, dtype=torch.bool) for e in excess]
    loss = torch.stack([a[k].mean() for a, k in zip(losses, kept, strict=True) if k.any()])
    count = torch.tensor([int(k.sum()) for k in kept if k.any()], dtype=torch.float64)
    mean_reference = torch.stack([b.mean() for b, k in zip(theirs, kept, strict=True) if k.any()])
    weights = sw.weights(rule, loss.detach(), reference=mean_reference)
    c = weights * (count if per == "token" else 1)
    (c / c.sum() * loss).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("sizes", [(2, 2, 2, 2), (8,), (3, 5)], ids=str)
@pytest.mark.parametrize("rule", ["by('excess', ir_dro(r=0.5))", "chain(by('excess', band(drop_top=0.25)), ir_dro())"])
@pytest.mark.fast_cover(1)
def test_excess_loss_from_a_second_model(tmp_path, rule, sizes):
    trainer, gradients = run(tmp_path, sizes, rule)
    right = expected(sw.parse_rule(rule), None, "sample")
    for gradient in gradients:
        assert (gradient - right).norm() <= 1e-10 * right.norm()
    assert "samplewise/seconds_reference" in trainer.state.log_history[0]


@pytest.mark.parametrize("per", ["sample", "token"])
@pytest.mark.parametrize("sizes", [(2, 2, 2, 2), (8,), (3, 5)], ids=str)
@pytest.mark.parametrize("scope", ["sample", "step"])
@pytest.mark.parametrize("rule", ["uniform()", "ir_dro(r=0.5)", "top_k(share=0.5)"])
@pytest.mark.fast_cover(2)
def test_tokens_of_the_highest_excess_loss(tmp_path, rule, scope, sizes, per):
    """rho1 before any rule over samples: the loop's gradient, however the step is split, in one pass or in two."""
    trainer, gradients = run(tmp_path, sizes, rule, token_rule=f"rho1(keep={KEEP}, scope='{scope}')", per=per)
    right = expected(sw.parse_rule(rule), scope, per)
    for gradient in gradients:
        assert (gradient - right).norm() <= 1e-10 * right.norm()
    modes = [entry["samplewise/mode"] for entry in trainer.state.log_history if "loss" in entry]
    one_pass = scope == "sample" and rule != "top_k(share=0.5)"
    assert modes[-1] == (1 if one_pass else 2)
    kept = trainer.state.log_history[-2]["samplewise/tokens_kept"]
    assert 0.2 < kept < 0.6


def test_from_logits_too(tmp_path, monkeypatch):
    """Where losses come from logits, tokens are selected from those."""
    found = {}
    for logits in ("refuse", "allow"):
        if logits == "allow":
            tiny.without_plain_head(monkeypatch)
        seen = Gradients()
        args = tiny.arguments(
            tmp_path, max_steps=2, learning_rate=0.0, max_grad_norm=0.0, per_device_train_batch_size=2
        )
        trainer = WeightedSplit(
            tiny.model(dtype=torch.float64), args, train_dataset=tiny.Rows(8), data_collator=tiny.collate,
            rule="ir_dro(r=0.5)", logits=logits, callbacks=[seen], reference_model=reference().double(),
            token_rule="rho1(keep=0.5)",
        )  # fmt: skip
        trainer.sizes = (4, 4)
        trainer.train()
        found[logits] = seen.steps
    for a, b in zip(*found.values(), strict=True):
        assert (a - b).norm() <= 1e-10 * a.norm()


def test_packed_rows_are_compared_segment_by_segment(tmp_path):
    options = {"reference_model": reference(), "token_rule": "rho1(keep=0.5)"}
    packed, a = trained(tmp_path, "bfd", "by('excess', ir_dro(r=0.5))", 4, data=conversations(), **options)
    padded, b = trained(tmp_path, "padded", "by('excess', ir_dro(r=0.5))", 1, data=conversations(), **options)
    for (_, mine, *_), (_, theirs, *_) in zip(packed.steps, padded.steps, strict=True):
        torch.testing.assert_close(mine.reference, theirs.reference, rtol=1e-5, atol=0)
        assert torch.equal(mine.tokens, theirs.tokens)
    for mine, theirs in zip(a, b, strict=True):
        assert (mine - theirs).norm() <= 2e-5 * theirs.norm()


# ---- refused ----


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"rule": "ir_dro(r=1.0)", "token_rule": "rho1()", "reference_model": None}, "reference_model"),
        ({"rule": "ir_dro(r=1.0)"}, "reference_model"),
        ({"rule": "by('excess', ir_dro())", "reference_model": tiny.model(vocab_size=40)}, "reference_model"),
        ({"rule": "ir_dro()", "token_rule": "rho1()", "normalize": "micro"}, "normalize"),
        ({"rule": "ir_dro()", "token_rule": 3}, "token_rule"),
        ({"rule": "ir_dro()", "reference_model": 3}, "reference_model"),
    ],
)
def test_refused_by_name(tmp_path, options, name):
    with pytest.raises(sw.SamplewiseError, match=f"^{name}"):
        WeightedTrainer(
            tiny.model(), tiny.arguments(tmp_path), train_dataset=tiny.Rows(8), data_collator=tiny.collate,
            **{"reference_model": reference(), **options},
        )  # fmt: skip


def test_the_second_model_is_left_as_it_was_but_frozen(tmp_path):
    model = reference()
    before = [p.clone() for p in model.parameters()]
    run(tmp_path, (4, 4), "by('excess', ir_dro())", dtype=torch.float32, reference_model=model)
    assert not any(p.requires_grad for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all("samplewise" not in str(type(m.forward)) for m in model.modules())


def test_a_second_model_that_is_the_first_is_refused(tmp_path):
    """Adapters would be put into both: the excess loss would be 0, and nothing weighed."""
    model, rule = tiny.model(), "by('excess', ir_dro(r=1.0))"
    for adapted in (False, True):
        with pytest.raises(sw.SamplewiseError, match=r"^reference_model: expected a model of its own"):
            trained(tmp_path, "padded", rule, model=model, reference_model=model, adapted=adapted)


def test_a_column_of_reference_losses_spares_the_second_models_forward(tmp_path):
    other, ran = tiny.model(seed=9), []
    other.register_forward_hook(lambda *_: ran.append(1))
    other.get_input_embeddings().register_forward_hook(lambda *_: ran.append(1))
    rule, data = "by('excess', ir_dro(r=1.0))", conversations(reference_loss=[1.0 + 0.1 * k for k in range(16)])
    trained(tmp_path, "padded", rule, data=data, reference_model=other)
    assert not ran
    trained(tmp_path, "padded", rule, reference_model=other)
    assert ran
