"""TRL's trainer with weights: padded, padding-free and packed are one and the same; `uniform()` is TRL's own."""

import datasets
import peft
import pytest
import tiny
import torch
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer
from watching import OnStep

from samplewise.trainers.trl import WeightedSFTTrainer

ROWS, LONGEST = 16, 40
OURS = ("per", "turns", "normalize", "reference_model", "token_rule", "loss_from")


def conversations(n: int = ROWS, *, seed: int = 1, **columns) -> datasets.Dataset:
    """Tokenised rows whose lengths fill packed rows of `LONGEST` two by two; their first tokens are not predicted."""
    generator = torch.Generator().manual_seed(seed)
    ids, labels = [], []
    for k in range(n):
        length = LONGEST // 2 + (k // 2 + 1) * (1 if k % 2 else -1)
        row = torch.randint(3, tiny.VOCABULARY, (length,), generator=generator)
        row[length // 3 :: 1 + k % 4] = 5 + k % 7  # some are easier than others
        prompt = 1 + k % 6
        ids.append(row.tolist())
        labels.append([-100] * prompt + row[prompt:].tolist())
    return datasets.Dataset.from_dict({"input_ids": ids, "labels": labels, **columns})


FORMS = {
    "padded": {"max_length": LONGEST},
    "padding-free": {"padding_free": True, "max_length": None},
    "bfd": {"packing": True, "packing_strategy": "bfd", "max_length": LONGEST},
}


def config(tmp_path, form: str, accumulation: int = 1, **options) -> SFTConfig:
    rows = ROWS // 2 if form.startswith("bfd") else ROWS
    defaults = {
        "output_dir": str(tmp_path), "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1,
        "per_device_train_batch_size": rows // accumulation, "gradient_accumulation_steps": accumulation,
        "max_steps": 2, "learning_rate": 0.0, "disable_tqdm": True, "seed": 3, "dataloader_pin_memory": False,
        "bf16": False, "max_grad_norm": 0.0, tiny.CHECKPOINTING: False, **FORMS[form],
    }  # fmt: skip
    return SFTConfig(**{**defaults, **options})


class Gradients(TrainerCallback):
    """What the optimizer sees at each step."""

    def __init__(self):
        self.steps: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps.append(torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.requires_grad]))


class Watched(WeightedSFTTrainer):
    """Keeps every step's samples and weights, in the order of ids, and its mode."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.steps = []
        self.engine.added.append(OnStep(self._keep))

    def _keep(self, result):
        order, rows = result.samples.id.argsort(), [len(micro.targets) for micro in self.engine.given]
        self.steps.append((result.mode, result.samples.select(order), result.weights[order], rows))


def lora() -> peft.LoraConfig:
    return peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)


def trained(tmp_path, form, rule, accumulation=1, *, data=None, adapted=False, cls=Watched, model=None, **options):
    ours = {key: options.pop(key) for key in OURS if key in options}
    torch.manual_seed(0)
    seen = Gradients()
    trainer = cls(
        model if model is not None else tiny.model(),
        config(tmp_path, form, accumulation, **options),
        train_dataset=conversations(ROWS) if data is None else data,
        processing_class=tokenizer(),
        peft_config=lora() if adapted else None,
        callbacks=[seen],
        **({"rule": rule} if issubclass(cls, WeightedSFTTrainer) else {}),
        **ours,
    )
    trainer.train()
    return trainer, seen.steps


def tokenizer():
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(tiny.VOCABULARY)}, unk_token="w3"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="w1", eos_token="w2", pad_token="w0", unk_token="w3"
    )


RULES = ["uniform()", "ir_dro(r=0.3)", "chain(band(drop_top=0.25), ir_dro(r=0.3))"]


@pytest.mark.parametrize("adapted", [False, True], ids=["full", "LoRA"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.fast_cases("ir_dro(r=0.3)-LoRA", "chain(band(drop_top=0.25), ir_dro(r=0.3))-full")
def test_padded_padding_free_and_packed_are_one_step(tmp_path, rule, adapted):
    """The same sample losses, weights and gradient, at accumulation 1 and 4, in two passes and in one."""
    reference, gradients = trained(tmp_path, "padded", rule, adapted=adapted)
    _, samples, weights, _ = reference.steps[0]
    assert len(samples) == ROWS
    if rule == "ir_dro(r=0.3)":
        assert [name for name, *_ in reference.steps] == ["two_pass", "one_pass"]
    assert (gradients[0] - gradients[1]).norm() <= 1e-5 * gradients[0].norm()
    for form in FORMS:
        for accumulation in (1, 4):
            trainer, found = trained(tmp_path, form, rule, accumulation, adapted=adapted)
            for (_, own, w, shapes), gradient in zip(trainer.steps, found, strict=True):
                assert torch.equal(own.id, samples.id)
                assert torch.equal(own.tokens, samples.tokens)
                known = own.loss.isfinite()
                torch.testing.assert_close(own.loss[known], samples.loss[known], rtol=1e-5, atol=0)
                torch.testing.assert_close(w, weights, rtol=1e-4, atol=0)
                assert (gradient - gradients[0]).norm() <= 2e-5 * gradients[0].norm(), (form, accumulation)
                assert form == "padded" or shapes == [1] * accumulation, "one flat row a micro-batch"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.fast_cover(1)
def test_uniform_per_token_is_trl(tmp_path, form, accumulation):
    """Ten clipped AdamW steps: the same parameters, losses and metrics."""
    options = {
        "learning_rate": 1e-3, "max_steps": 10, "max_grad_norm": 0.5, "per_device_train_batch_size": 2,
        "data": conversations(20), tiny.CHECKPOINTING: True,
    }  # fmt: skip
    ours, _ = trained(tmp_path, form, "uniform()", accumulation, per="token", **options)
    host, _ = trained(tmp_path, form, None, accumulation, cls=SFTTrainer, **options)
    for a, b in zip(ours.model.parameters(), host.model.parameters(), strict=True):
        assert (a - b).abs().max() <= 2e-5
    keys = {"loss": 1e-5, "grad_norm": 1e-4, "num_tokens": 0, "learning_rate": 0}
    keys |= {"entropy": 1e-5, "mean_token_accuracy": 1e-6}
    for key, tolerance in keys.items():
        mine, theirs = ([entry[key] for entry in t.state.log_history if key in entry] for t in (ours, host))
        assert mine == pytest.approx(theirs, rel=tolerance), key
