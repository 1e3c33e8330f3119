"""The same steps through every host: a Trainer, TRL's SFTTrainer, and a loop of one's own, bare and on accelerate.

A host is a function (model, rows, form, options, folder) -> Run: `STEPS` steps of `MICRO` micro-batches of `SIZE` rows
in order, at a learning rate of 0, on rows with columns, so that every host sees the same samples in the same steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import datasets
import tiny
import torch
from accelerate import Accelerator
from transformers import TrainerCallback, TrainingArguments
from trl import SFTConfig

from samplewise.engine.observers import StatelessObserver
from samplewise.engine.result import StepResult
from samplewise.trainers import WeightedMixin, WeightedStep, WeightedTrainer
from samplewise.trainers.collate import FieldsCollator
from samplewise.trainers.trl import WeightedSFTTrainer

STEPS, MICRO, SIZE = 2, 2, 4


@dataclass
class Run(StatelessObserver):
    """What came of the steps: gradients as an optimizer sees them, results, and the host itself."""

    gradients: list[torch.Tensor] = field(default_factory=list)
    results: list[StepResult] = field(default_factory=list)
    host: Any = None

    def on_step(self, result: StepResult) -> None:
        """Keep it."""
        self.results.append(result)


Host = Callable[..., Run]


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.grad is not None])


class _Gradients(TrainerCallback):
    def __init__(self, run: Run) -> None:
        self.run = run

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.run.gradients.append(flat(model))


class _InOrder(WeightedMixin):
    def _get_train_sampler(self, *args):
        return torch.utils.data.SequentialSampler(self.train_dataset)


class _Trainer(_InOrder, WeightedTrainer):
    pass


class _SFT(_InOrder, WeightedSFTTrainer):
    pass


def _arguments(folder: Any, steps: int) -> dict[str, Any]:
    return {
        "output_dir": str(folder), "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1,
        "per_device_train_batch_size": SIZE, "gradient_accumulation_steps": MICRO, "max_steps": steps,
        "learning_rate": 0.0, "disable_tqdm": True, "dataloader_pin_memory": False, "max_grad_norm": 0.0,
    }  # fmt: skip


def _train(trainer: Any, run: Run, resume: str | None) -> Run:
    run.host = trainer
    trainer.add_callback(_Gradients(run))
    trainer.train(resume_from_checkpoint=resume)
    return run


def trainer(model, rows, form, options, folder, *, steps=STEPS, resume=None, save=False) -> Run:
    """`transformers.Trainer`."""
    given = _arguments(folder, steps) | ({"save_strategy": "steps", "save_steps": 1} if save else {})
    args = TrainingArguments(**given)
    run = Run()
    made = _Trainer(
        model, args, train_dataset=rows, data_collator=COLLATORS[form], observers=[run], **options
    )  # fmt: skip
    return _train(made, run, resume)


def sft(model, rows, form, options, folder, *, steps=STEPS, resume=None, save=False) -> Run:
    """TRL's `SFTTrainer`, with its own collator."""
    own = {"padding_free": True, "max_length": None} if form == "flat" else {"max_length": 64}
    given = _arguments(folder, steps) | ({"save_strategy": "steps", "save_steps": 1} if save else {})
    config = SFTConfig(**given, **own, bf16=False, **{tiny.CHECKPOINTING: False})
    run = Run()
    made = _SFT(model, config, train_dataset=rows, processing_class=tokenizer(), observers=[run], **options)
    return _train(made, run, resume)


def _loop(accelerator: Accelerator | None) -> Host:
    def host(model, rows, form, options, folder, *, steps=STEPS, resume=None, save=False) -> Run:
        run = Run()
        if accelerator is not None:
            model = accelerator.prepare(model)
        step = run.host = WeightedStep(model, accelerator=accelerator, observers=[run], **options)
        first = 0
        if resume is not None:
            step.load(resume)
            first = step.engine.steps
        collate = FieldsCollator(COLLATORS[form])
        model.train()
        pool = options.get("pool", 1)
        for number in range(first, steps):
            bounds = [(number * MICRO + k) * SIZE * pool for k in range(MICRO)]
            batches = [collate([rows[i] for i in range(a, a + SIZE * pool)]) for a in bounds]
            for micro in step.plan(batches):
                step.backward(micro)
            step.finish()
            run.gradients.append(flat(model))
            model.zero_grad()
            if save:
                saved(step, folder / f"checkpoint-{number + 1}")
        step.detach()
        return run

    return host


def saved(step: WeightedStep, folder: Any) -> None:
    from samplewise.core.checkpoint import mark_complete

    step.save(folder)
    mark_complete(folder)


def tokenizer() -> Any:
    """One word for each id."""
    import transformers
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(tiny.VOCABULARY)}, unk_token="w3"))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="w1", eos_token="w2", pad_token="w0", unk_token="w3"
    )


HOSTS: dict[str, Host] = {
    "Trainer": trainer,
    "SFTTrainer": sft,
    "loop": _loop(None),
    "loop on accelerate": lambda *args, **kwargs: _loop(Accelerator(cpu=True))(*args, **kwargs),
}


def rows(n: int = STEPS * MICRO * SIZE, *, seed: int = 1, answers: int = 1, **columns: Any) -> datasets.Dataset:
    """Rows of different lengths, the first token of each not predicted, nor what stands between two answers."""
    generator = torch.Generator().manual_seed(seed)
    ids, labels = [], []
    for k in range(n):
        row = torch.randint(3, tiny.VOCABULARY, (6 + k % 7,), generator=generator)
        row[2 :: 1 + k % 3] = 5 + k % 7
        ids.append(row.tolist())
        own = [-100, *row[1:].tolist()]
        if answers == 2:
            own[3] = -100
        labels.append(own)
    return datasets.Dataset.from_dict({"input_ids": ids, "labels": labels, **columns})


def padded(features: list[dict[str, Any]], *, left: bool = False) -> dict[str, torch.Tensor]:
    """Rows padded to the longest."""
    width = max(len(f["input_ids"]) for f in features)
    fills = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    batch: dict[str, list[torch.Tensor]] = {key: [] for key in fills}
    for f in features:
        own = {"input_ids": f["input_ids"], "attention_mask": [1] * len(f["input_ids"]), "labels": f["labels"]}
        for key, fill in fills.items():
            space = [fill] * (width - len(own[key]))
            batch[key].append(torch.tensor(space + list(own[key]) if left else list(own[key]) + space))
    return {key: torch.stack(values) for key, values in batch.items()}


def padded_left(features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """The same on the left."""
    return padded(features, left=True)


def flattened(features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """All rows in one, positions restarting."""
    ids = torch.cat([torch.tensor(f["input_ids"]) for f in features])[None]
    position = torch.cat([torch.arange(len(f["input_ids"])) for f in features])[None]
    labels = torch.cat([torch.tensor(f["labels"]) for f in features])[None]
    return {"input_ids": ids, "labels": labels.masked_fill(position == 0, -100), "position_ids": position}


def numbered(features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """All rows in one, told apart by an attention mask 1, 1, 2, 2, 3; two positions of padding."""
    batch = flattened(features)
    own = [k + 1 for k, f in enumerate(features) for _ in f["input_ids"]]
    mask = torch.nn.functional.pad(torch.tensor([own]), (0, 2))
    fills = {"input_ids": 0, "labels": -100}
    return {k: torch.nn.functional.pad(batch[k], (0, 2), value=fill) for k, fill in fills.items()} | {
        "attention_mask": mask
    }


COLLATORS = {"padded": padded, "left": padded_left, "flat": flattened, "numbered": numbered}
