"""What people turn on in a Trainer: with `uniform()` all of it comes out as in the plain one."""

import inspect
import re

import peft
import pytest
import safetensors.torch
import tiny
import torch
from test_step_in_trainer import Gradients
from transformers import Trainer, TrainerCallback
from transformers.integrations.integration_utils import rewrite_logs

import samplewise as sw
from samplewise.engine.options import WeightingOptions
from samplewise.trainers import WeightedMixin, WeightedTrainer

UNIFORM = {"rule": "uniform()", "per": "token"}
TILT = {"rule": "ir_dro(r=0.5)"}


def trained(tmp_path, cls, ours, *, callbacks=(), collate=tiny.collate, evaluate=False, model=None, **options):
    torch.manual_seed(0)
    args = tiny.arguments(tmp_path / cls.__name__, **options)
    trainer = cls(
        model or tiny.model(), args, train_dataset=tiny.Rows(24), data_collator=collate, callbacks=list(callbacks),
        eval_dataset=tiny.Rows(8, seed=2) if evaluate else None, **ours,
    )  # fmt: skip
    trainer.train()
    return trainer


# ---- load_best_model_at_end ----

BEST = {
    "load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps",
    "save_steps": 1, "max_steps": 4, "learning_rate": 1e-2, "save_total_limit": 1, "evaluate": True,
    "metric_for_best_model": "eval_loss", "greater_is_better": False,  # it rises: random rows are learned by heart
}  # fmt: skip


def test_the_best_checkpoint_is_the_plain_trainers(tmp_path):
    plain, ours = trained(tmp_path, Trainer, {}, **BEST), trained(tmp_path, WeightedTrainer, UNIFORM, **BEST)
    assert 1 <= ours.state.best_global_step == plain.state.best_global_step < 4, "the last is not the best"
    assert ours.state.best_metric == pytest.approx(plain.state.best_metric, rel=1e-5)
    for a, b in zip(ours.model.parameters(), plain.model.parameters(), strict=True):
        assert (a - b).abs().max() <= 2e-5


def test_the_best_model_of_a_weighted_run_is_loaded(tmp_path):
    trainer = trained(tmp_path, WeightedTrainer, TILT, **BEST)
    best = trainer.state.best_model_checkpoint
    losses = {entry["step"]: entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry}
    assert trainer.state.best_global_step == min(losses, key=losses.__getitem__)
    saved = safetensors.torch.load_file(f"{best}/model.safetensors")
    own = dict(trainer.model.named_parameters())
    assert all(torch.equal(own[name], value) for name, value in saved.items())
    assert trainer.evaluate()["eval_loss"] == pytest.approx(losses[trainer.state.best_global_step], rel=1e-6)


# ---- group_by_length ----


def test_rows_grouped_by_length_come_in_the_plain_trainers_order(tmp_path):
    def order(cls, ours, strategy="group_by_length"):
        seen = []

        def collate(features):
            seen.append([f["input_ids"].tolist() for f in features])
            return tiny.collate(features)

        trained(
            tmp_path, cls, ours, collate=collate, train_sampling_strategy=strategy, num_train_epochs=2, max_steps=-1,
        )  # fmt: skip
        return seen

    plain, ours, tilted = order(Trainer, {}), order(WeightedTrainer, UNIFORM), order(WeightedTrainer, TILT)
    assert ours == plain == tilted
    assert order(WeightedTrainer, UNIFORM, "random") != ours


# ---- NEFTune ----


@pytest.mark.parametrize("accumulation", [1, 2])
def test_noise_in_the_embeddings_is_the_plain_trainers(tmp_path, accumulation):
    def gradients(cls, ours, **options):
        seen = Gradients()
        trained(
            tmp_path, cls, ours, callbacks=[seen], gradient_accumulation_steps=accumulation, max_grad_norm=0.0,
            max_steps=3, **options,
        )  # fmt: skip
        return seen.steps

    noisy = {"neftune_noise_alpha": 5.0}
    plain, ours = gradients(Trainer, {}, **noisy), gradients(WeightedTrainer, UNIFORM, **noisy)
    for a, b, without in zip(ours, plain, gradients(Trainer, {}), strict=True):
        assert (a - b).norm() <= 2e-5 * b.norm()
        assert (b - without).norm() >= 1e-2 * b.norm()


def test_rows_are_scored_without_noise(tmp_path):
    """Two passes: the weights are those of a run without it."""
    options = {"max_steps": 1, "learning_rate": 0.0}
    keys = ("samplewise/ess", "samplewise/kl", "samplewise/max_weight")
    noisy, still = (
        trained(tmp_path, WeightedTrainer, {"rule": "ir_dro(kl=0.2)"}, neftune_noise_alpha=alpha, **options)
        for alpha in (5.0, None)
    )
    for key in keys:
        assert noisy.state.log_history[0][key] == pytest.approx(still.state.log_history[0][key], rel=1e-6)


# ---- what goes to tensorboard, wandb, trackio ----


class Logged(TrainerCallback):
    def __init__(self):
        self.seen = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.seen.append(rewrite_logs(dict(logs)))


def test_figures_reach_whatever_the_trainer_reports_to(tmp_path):
    """Every reporter of transformers writes what this function makes of the log."""
    seen = Logged()
    trained(tmp_path, WeightedTrainer, TILT, callbacks=[seen])
    keys = {key for each in seen.seen for key in each}
    assert {f"train/samplewise/{name}" for name in ("ess", "kl", "kept", "max_weight", "weighted_loss")} <= keys
    assert all(isinstance(value, (int, float)) for each in seen.seen for value in each.values())


# ---- the model card ----

SECTION = "## Sample weights"


@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")  # peft 0.18, of a nameless model
@pytest.mark.parametrize("adapted", [False, True], ids=["full", "LoRA"])
def test_the_card_says_how_samples_were_weighted(tmp_path, adapted):
    lora = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(tiny.model(), lora) if adapted else tiny.model()
    trainer = trained(tmp_path, WeightedTrainer, {**TILT, "per": "token", "log_samples": tmp_path / "log"}, model=model)
    trainer.save_model()
    for _ in range(2):  # as push_to_hub does after each save
        trainer.create_model_card(model_name="mine", tags="own")
    card = (tmp_path / "WeightedTrainer" / "README.md").read_text()
    assert card.count(SECTION) == 1
    section = card[card.index(SECTION) :]
    assert "```\nir_dro(r=0.5)\n```" in section
    assert "Options: `per='token'`." in section
    assert str(tmp_path) not in section
    ess = trainer.state.log_history[-2]["samplewise/ess"]
    assert f"| ess | {ess:.4g} |" in section
    assert "journal = {arXiv preprint arXiv:2402.14270}" in section
    assert re.search(r"^- samplewise$", card[: card.index(SECTION)], re.MULTILINE)
    assert adapted or re.search(r"^- own$", card[: card.index(SECTION)], re.MULTILINE), "PEFT drops tags"


def test_the_card_can_be_written_before_training(tmp_path):
    trainer = WeightedTrainer(tiny.model(), tiny.arguments(tmp_path), train_dataset=tiny.Rows(8), rule=sw.top_k(0.5))
    trainer.create_model_card()
    section = (tmp_path / "README.md").read_text().partition(SECTION)[2]
    assert "top_k(share=0.5)" in section
    assert "| ess |" not in section
    assert "The paper that samplewise implements" in section


@pytest.mark.parametrize(
    ("rule", "method"),
    [
        ("chain(band(drop_top=0.25), ir_dro(r=1.0))", "SFT with IR-DRO, a method introduced in [Take the Bull"),
        ("top_k(0.5)", "SFT."),
    ],
)
def test_trls_card_names_the_method_where_it_is_the_papers(tmp_path, rule, method):
    from test_trl import conversations, tokenizer
    from trl import SFTConfig

    from samplewise.trainers.trl import WeightedSFTTrainer

    args = SFTConfig(output_dir=str(tmp_path), use_cpu=True, report_to="none", bf16=False)
    trainer = WeightedSFTTrainer(
        tiny.model(), args, train_dataset=conversations(8), processing_class=tokenizer(), rule=rule
    )
    trainer.create_model_card(model_name="mine")
    card = (tmp_path / "README.md").read_text()
    assert f"This model was trained with {method}" in card
    assert card.count("arXiv preprint arXiv:2402.14270") == card.count(SECTION) == 1
    assert {"trl", "sft", "samplewise"} <= set(re.findall(r"^- (\w+)$", card, re.MULTILINE))


def test_pushing_is_the_trainers_own():
    assert WeightedTrainer.push_to_hub is Trainer.push_to_hub


# ---- signatures ----


def parameters(cls):
    return inspect.signature(cls).parameters


def test_the_signature_has_the_trainers_arguments_and_ours():
    from trl import SFTTrainer

    from samplewise.trainers.trl import WeightedSFTTrainer

    options = set(inspect.signature(WeightingOptions).parameters) | {"observers"}
    for cls, host, own in ((WeightedTrainer, Trainer, set()), (WeightedSFTTrainer, SFTTrainer, {"prompt_weight"})):
        found, theirs = parameters(cls), parameters(host)
        assert set(found) == set(theirs) | options | own
        assert all(found[name] == theirs[name] for name in theirs)
        assert list(found)[: len(theirs)] == list(theirs), "positions are the host's"
        assert found["rule"].default is inspect.Parameter.empty
        assert found["per"].default == "sample"
        assert "rule" in str(inspect.signature(cls))


def test_a_trainer_of_ones_own_has_its_signature():
    class Mine(Trainer):
        def __init__(self, colour, *args, size=3, **kwargs):
            super().__init__(*args, **kwargs)

    class Closed(WeightedTrainer):
        def __init__(self, model, args):
            super().__init__(model, args, rule="uniform()")

    class Weighted(WeightedMixin, Mine):
        pass

    found = parameters(Weighted)
    assert list(found)[:3] == ["colour", "model", "args"]
    assert found["size"].kind is found["rule"].kind is inspect.Parameter.KEYWORD_ONLY
    assert list(parameters(Closed)) == ["model", "args"]
