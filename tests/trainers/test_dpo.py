"""TRL's preference trainer with weights: `uniform()` is TRL's own; any rule's gradient is autograd's of the step."""

import copy
import inspect
import math

import peft
import pytest
import tiny
import torch
import transformers
import trl
from preferences import PAIRS, Gradients, by_hand, close, config, gradient, logged, pairs, policy, reference, tokenizer
from trl import DPOTrainer
from watching import OnStep

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.trainers.dpo import WeightedDPOTrainer

OURS = (
    "per",
    "turns",
    "normalize",
    "reference_model",
    "token_rule",
    "loss_from",
    "losses",
    "min_stored_corr",
    "allow_negative",
)


def trained(tmp_path, rule=None, accumulation=1, *, data=None, model=None, adapted=False, evaluated=None, **options):
    """(gradients of the steps, the trainer); TRL's own without a rule."""
    ours = {key: options.pop(key) for key in OURS if key in options}
    more = {} if rule is None else {"rule": rule, **ours}
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False) if adapted else None
    torch.manual_seed(0)
    seen, data = Gradients(), pairs() if data is None else data
    trainer = (DPOTrainer if rule is None else WeightedDPOTrainer)(
        model or policy(), None if adapted else reference(), config(tmp_path, accumulation, len(data), **options),
        train_dataset=data, eval_dataset=evaluated, processing_class=tokenizer(), callbacks=[seen], peft_config=lora,
        **more,
    )  # fmt: skip
    results = []
    if rule is not None:
        trainer.engine.added.append(OnStep(results.append))
    trainer.train()
    trainer.results = results
    return seen.steps, trainer


# ---- TRL's own ----

KINDS = {
    "sigmoid": {}, "hinge": {"loss_type": ["hinge"]}, "ipo": {"loss_type": ["ipo"]},
    "exo_pair": {"loss_type": ["exo_pair"], "label_smoothing": 0.1}, "nca_pair": {"loss_type": ["nca_pair"]},
    "robust": {"loss_type": ["robust"], "label_smoothing": 0.1}, "bco_pair": {"loss_type": ["bco_pair"]},
    "sppo_hard": {"loss_type": ["sppo_hard"]}, "apo_zero": {"loss_type": ["apo_zero"]},
    "apo_down": {"loss_type": ["apo_down"]}, "discopop": {"loss_type": ["discopop"]},
    "sigmoid_norm": {"loss_type": ["sigmoid_norm"]},
    "two": {"loss_type": ["sigmoid", "ipo"], "loss_weights": [0.7, 0.2]},
    "js_divergence": {"f_divergence_type": "js_divergence"}, "ld_alpha": {"ld_alpha": 0.3},
    "wpo": {"use_weighting": True}, "cut": {"max_length": 6},
    "precomputed": {"precompute_ref_log_probs": True}, "checkpointing": {tiny.CHECKPOINTING: True},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.fast_cases("sigmoid", "two", "precomputed", "js_divergence")
def test_uniform_weights_are_the_hosts_own_training(tmp_path, kind):
    """Gradients of both steps, and all that is logged: rewards, margins, accuracies, log-likelihoods, tokens."""
    want, host = trained(tmp_path / "host", **KINDS[kind])
    found, ours = trained(tmp_path / "ours", "uniform()", **KINDS[kind])
    assert all(map(close, found, want))
    assert len(found) == len(want) == 2
    for mine, theirs in zip(logged(ours), logged(host), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    assert {"rewards/margins", "rewards/accuracies", "logps/chosen", "entropy"} <= logged(ours)[0].keys()


def test_adapters_are_compared_with_the_model_without_them(tmp_path):
    want, host = trained(tmp_path / "host", adapted=True, accumulation=2)
    found, ours = trained(tmp_path / "ours", "uniform()", adapted=True, accumulation=2)
    assert all(map(close, found, want))
    assert logged(ours)[0]["rewards/margins"] == pytest.approx(logged(host)[0]["rewards/margins"], rel=1e-5)
    assert ours.ref_model is None


def test_parameters_move_as_the_hosts_do_with_a_reference_that_follows(tmp_path):
    options = {"learning_rate": 1e-2, "sync_ref_model": True, "ref_model_sync_steps": 1, "max_steps": 4}
    _, host = trained(tmp_path / "host", accumulation=2, **options)
    _, ours = trained(tmp_path / "ours", "uniform()", accumulation=2, **options)
    for mine, theirs in zip(ours.model.parameters(), host.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=2e-5)
    assert logged(ours)[-1]["loss"] == pytest.approx(logged(host)[-1]["loss"], rel=1e-4)


# ---- rules ----

COLUMNS = {
    "sample_id": [50 + k for k in range(PAIRS)], "sample_weight": [1.0, 0.5, 0.0, 2.0, 1.0, 1.0, 3.0, 0.25],
    "group": [k % 2 for k in range(PAIRS)], "stored_loss": [0.1 * (k * 3 % PAIRS) for k in range(PAIRS)],
}  # fmt: skip
RULES = [
    "ir_dro(r=0.5)", "ir_dro(r=-0.3)", "ir_dro(ess=0.5)", "top_k(0.25)", "chain(band(drop_top=0.25), ir_dro(r=0.5))",
    "chain(column_weights(), ir_dro(r=0.5))", "group_dro(step_size=0.5)", "random_keep(0.5)",
    "by_length(2, top_k(0.25))",
]  # fmt: skip


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.fast_cases("ir_dro(r=0.5)-4", "top_k(0.25)-4", "random_keep(0.5)-1", "group_dro(step_size=0.5)-4")
def test_any_rule_weighs_pairs_over_the_whole_step(tmp_path, rule, accumulation):
    """Two steps against autograd through logits, pair by pair, with the plan's coefficients."""
    data, model = pairs(**COLUMNS), policy().double()
    found, ours = trained(tmp_path, rule, accumulation, data=data, model=policy().double())
    losses, parsed = by_hand(model, data), sw.parse_rule(rule)
    more = {"weight": torch.tensor(data["sample_weight"]).double(), "group": torch.tensor(data["group"])}
    tokens = [len(row["chosen"].split()) + len(row["rejected"].split()) + 2 for row in data]
    ids = torch.tensor(data["sample_id"])
    samples, state = sw.Samples(losses.detach(), torch.tensor(tokens), ids, **more), parsed.init()
    for step, result in zip(found, ours.results, strict=True):
        plan = sw.plan_step(parsed, samples, state)
        state, order = plan.state, result.samples.id.argsort()
        want = gradient((plan.coefficients * losses).sum(), model.parameters())
        assert close(step, want, 5e-6)  # TRL's head computes in fp32
        assert result.samples.tokens[order].tolist() == tokens
        torch.testing.assert_close(result.weights[order], plan.weights.double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.fast_cases("True-4")
def test_a_negative_temperature_is_dr_dpo(tmp_path, accumulation, adapted):
    """The gradient of −β′·log mean exp(−loss/β′) over all pairs of the step: in two passes first, then in one."""
    second, data = 0.4, pairs()
    found, ours = trained(tmp_path, f"ir_dro(r=-{second})", accumulation, adapted=adapted)
    assert [result.mode for result in ours.results] == ["two_pass", "one_pass"]
    model, base = ours.model, policy() if adapted else reference()
    losses = by_hand(model.double(), data, frozen=base.double())
    value = -second * (torch.logsumexp(-losses / second, 0) - math.log(PAIRS))
    want = gradient(value, [p for p in model.parameters() if p.requires_grad])
    assert all(close(step, want, 1e-5) for step in found)
    assert ours.results[0].loss == pytest.approx(float(losses.detach().mean()), rel=1e-5)


def test_a_pair_that_is_left_out_by_its_stored_loss_goes_through_no_forward(tmp_path):
    data = pairs(**COLUMNS)
    found, ours = trained(tmp_path, "top_k(0.25)", 2, data=data, loss_from="stored", min_stored_corr=-1.0)
    kept = sorted(range(PAIRS), key=lambda k: -COLUMNS["stored_loss"][k])[:2]
    first, model = ours.results[0], policy()
    assert sorted(first.samples.id[first.weights > 0].tolist()) == sorted(50 + k for k in kept)
    assert first.tokens == sum(len(data[k][name].split()) + 1 for k in kept for name in ("chosen", "rejected"))
    want = gradient(by_hand(model.double(), data.select(kept)).mean(), model.parameters())
    assert close(found[0], want, 1e-5)


@pytest.mark.parametrize("rule", ["ir_dro(r=0.5)", "top_k(0.25)"])
@pytest.mark.fast_cases("top_k(0.25)")
def test_metrics_are_of_all_pairs_in_one_pass_and_in_two(tmp_path, rule):
    """Pairs that the rule leaves out are scored, and those that are trained on count once."""
    _, host = trained(tmp_path / "host", accumulation=2)
    _, ours = trained(tmp_path / "ours", rule, accumulation=2)
    names = [name for name in logged(host)[0] if name.startswith(("rewards/", "logps/"))] + ["loss", "num_tokens"]
    for mine, theirs in zip(logged(ours), logged(host), strict=True):
        assert {n: mine[n] for n in names} == pytest.approx({n: theirs[n] for n in names}, rel=1e-5, abs=1e-6)


def test_evaluation_is_the_hosts_own(tmp_path):
    options = {"eval_strategy": "steps", "eval_steps": 1, "evaluated": pairs(6, sample_weight=[0.0] * 6)}
    _, host = trained(tmp_path / "host", **options)
    _, ours = trained(tmp_path / "ours", "top_k(0.25)", **options)
    mine, theirs = ([row for row in logged(each) if "eval_loss" in row] for each in (ours, host))
    assert len(mine) == 2
    assert all(a == pytest.approx(b, rel=1e-6) for a, b in zip(mine, theirs, strict=True))


def test_a_pair_of_negative_weight_is_unlearnt_and_counts_in_the_metrics(tmp_path):
    data, rule = pairs(sample_weight=[1.0, -0.5, 2.0, 1.0, 0.0, -1.0, 1.0, 1.0]), "column_weights()"
    found, ours = trained(tmp_path / "ours", rule, 2, data=data, allow_negative=True, max_steps=1)
    model, weight = policy().double(), torch.tensor(data["sample_weight"]).double()
    losses = by_hand(model, data)
    assert close(found[0], gradient((weight * losses).sum() / weight.abs().sum(), model.parameters()), 1e-5)
    _, host = trained(tmp_path / "host", data=data.select([k for k in range(PAIRS) if k != 4]), max_steps=1)
    names = ("rewards/margins", "logps/chosen", "entropy", "mean_token_accuracy", "logits/rejected")
    assert {n: logged(ours)[0][n] for n in names} == pytest.approx({n: logged(host)[0][n] for n in names}, rel=1e-5)


def test_half_precision_and_streams_are_the_hosts_too(tmp_path):
    want, _ = trained(tmp_path / "host", bf16=True, max_steps=1)
    found, _ = trained(tmp_path / "ours", "uniform()", bf16=True, max_steps=1)
    assert close(found[0], want[0])
    data, seen = pairs().to_iterable_dataset(), Gradients()
    WeightedDPOTrainer(
        policy(), reference(), config(tmp_path, max_steps=1), train_dataset=data, processing_class=tokenizer(),
        callbacks=[seen], rule="uniform()",
    ).train()  # fmt: skip
    assert close(seen.steps[0], trained(tmp_path / "rows", max_steps=1)[0][0])


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "learning_rate": 1e-2}
    _, whole = trained(tmp_path, "ir_dro(r=-0.4)", 2, **options)
    again = WeightedDPOTrainer(
        policy(), reference(), config(tmp_path, 2, **options), train_dataset=pairs(), processing_class=tokenizer(),
        rule="ir_dro(r=-0.4)",
    )  # fmt: skip
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True))


def test_an_epoch_leaves_pairs_out(tmp_path):
    rule = 'infobatch(share=0.5, scope="epoch")'
    _, ours = trained(tmp_path, rule, 2, max_steps=-1, num_train_epochs=2)
    counts = [len(result.samples) for result in ours.results]
    assert counts[0] == PAIRS
    assert counts[1] < PAIRS


# ---- what it costs ----


@pytest.mark.parametrize(("rule", "forwards"), [("uniform()", 4), ("top_k(0.25)", 4 + 1), ("random_keep(0.25)", 1)])
def test_the_reference_is_asked_once_a_pair_and_no_logits_are_built(tmp_path, rule, forwards):
    """Of four micro-batches of two pairs: in two passes the two that are kept run once more, in one micro-batch."""
    counts = {"policy": 0, "reference": 0, "head": 0}
    model, frozen = policy(), reference()

    def count(name, module):
        module.register_forward_hook(lambda *given: counts.__setitem__(name, counts[name] + 1))

    for name, module in (("policy", model.model), ("reference", frozen.model), ("head", model.lm_head)):
        count(name, module)
    WeightedDPOTrainer(
        model, frozen, config(tmp_path, 4, max_steps=1), train_dataset=pairs(), processing_class=tokenizer(), rule=rule
    ).train()
    fused = "fused_lm_head" in inspect.getsource(trl.trainer.dpo_trainer)  # not before TRL 1.15
    assert counts == {"policy": forwards, "reference": 4, "head": 0 if fused else forwards}


# ---- what is refused ----

REFUSED = [
    ("loss_type", {"loss_type": ["sigmoid", "sft"]}), ("loss_type", {"loss_type": ["aot"]}), ("per", {"per": "token"}),
    ("turns", {"turns": True}), ("token_rule", {"token_rule": "rho1(keep=0.6)"}),
    ("losses", {"losses": lambda model, micro: None}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), REFUSED)
def test_what_no_pair_has_alone_is_refused(tmp_path, name, options):
    with pytest.raises(SamplewiseError, match=rf"^{name}: expected"):
        trained(tmp_path, "uniform()", **options)


def test_a_reference_model_of_tokens_is_refused(tmp_path):
    with pytest.raises(SamplewiseError, match=r"^reference_model: expected None for preference pairs"):
        trained(tmp_path, "uniform()", reference_model=reference())


@pytest.mark.parametrize("column", ["token_weights", "images"])
def test_data_that_is_more_than_pairs_of_texts_is_refused(tmp_path, column):
    with pytest.raises(SamplewiseError, match=rf"^train_dataset: expected pairs of texts, got a column {column}"):
        trained(tmp_path, "uniform()", data=pairs(**{column: [[1.0]] * PAIRS}))


def test_a_router_with_a_term_of_its_own_is_refused(tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    experts = transformers.MixtralConfig(
        vocab_size=tiny.VOCABULARY, num_key_value_heads=2, num_local_experts=2, router_aux_loss_coef=0.4, **sizes
    )
    model = transformers.AutoModelForCausalLM.from_config(experts)
    with pytest.raises(SamplewiseError, match=r"^router_aux_loss_coef: expected 0.0"):
        trained(tmp_path, "uniform()", model=model)
    found, _ = trained(tmp_path, "uniform()", model=model, router_aux_loss_coef=0.0)
    want, _ = trained(tmp_path, model=copy.deepcopy(model), router_aux_loss_coef=0.0)
    assert all(map(close, found, want))


def test_a_collator_that_mixes_the_answers_up_is_refused(tmp_path):
    trainer = WeightedDPOTrainer(
        policy(), reference(), config(tmp_path), train_dataset=pairs(), processing_class=tokenizer(), rule="uniform()",
    )  # fmt: skip
    host = trainer.data_collator
    trainer.data_collator = lambda rows: {key: value[:-1] for key, value in host(rows).items()}
    with pytest.raises(SamplewiseError, match=r"^data_collator: expected all chosen answers, then all rejected ones"):
        trainer.train()
