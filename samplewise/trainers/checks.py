"""Settings of a Trainer that cannot be combined with sample weighting: refused by name, before the first step."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from samplewise.core.columns import FIELDS, ID, SEGMENTS, WEIGHT
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule, State
from samplewise.core.samples import Samples
from samplewise.losses.token_losses import IGNORED
from samplewise.trainers.overrides import only_calls_super
from samplewise.trainers.parallelism import split_models

logger = logging.getLogger("samplewise")


def refuse_own_steps(trainer: Any, mixin: type, allowed_hosts: tuple[str, ...]) -> None:
    """Errors: SamplewiseError naming a `compute_loss` or `training_step` that is neither the mixin's nor the Trainer's.

    A loss of one's own would not be called, or would switch the weights off; a step of one's own would see neither the
    freed micro-batches nor the one division at the end. One that only calls super does neither.
    """
    for method in ("compute_loss", "training_step"):
        for cls in type(trainer).__mro__:
            own = not cls.__module__.startswith(("samplewise.", *allowed_hosts))
            if own and method in vars(cls) and not only_calls_super(vars(cls)[method], method):
                raise SamplewiseError(
                    f"{cls.__name__}.{method}", expected="the Trainer's own method",
                    got="an override, which cannot be combined with sample weighting",
                    remedy=f"Remove it: {mixin.__name__} replaces it. Move what else it does to a callback.",
                )  # fmt: skip


def refuse_options(trainer: Any) -> None:
    """Errors: SamplewiseError naming the first option that cannot be combined with sample weighting."""
    args = trainer.args
    optimizer = str(getattr(args.optim, "value", args.optim))
    no_loss = "Leave it out: the weighted loss replaces it."
    refused = [
        ("label_smoothing_factor", args.label_smoothing_factor, "Set it to 0: sample losses are plain cross-entropy."),
        ("compute_loss_func", trainer.compute_loss_func, no_loss),
        (
            "use_liger_kernel",
            _liger_loss(args),
            "Keep its kernels for layers, without its losses: "
            'liger_kernel_config={"fused_linear_cross_entropy": False, "cross_entropy": False}.',
        ),
        (
            "optim",
            optimizer if _steps_in_backward(optimizer) else None,
            "Choose another optimizer: this one steps inside backward.",
        ),
        ("n_gpu (DataParallel)", args.n_gpu if args.n_gpu > 1 else None, "Launch with torchrun: one process a GPU."),
        *split_models(trainer),
        ("fsdp", is_fsdp1(trainer.accelerator) and "FSDP 1", 'Set "version": 2 in fsdp_config (fsdp_version: 2).'),
        (
            "model",
            _is_encoder_decoder(trainer.model) and "an encoder–decoder",
            "Use a causal language model: no other kind is supported.",
        ),
    ]
    for name, value, remedy in refused:
        if value:
            raise SamplewiseError(
                name, expected="a setting that can be combined with sample weighting", got=repr(value), remedy=remedy
            )


def _liger_loss(args: Any) -> str | None:
    """Which of Liger's losses is on; its kernels for layers change no loss."""
    config = getattr(args, "liger_kernel_config", None) or {}
    names = ("fused_linear_cross_entropy", "cross_entropy")
    on = [name for name, default in zip(names, (True, False), strict=True) if config.get(name, default)]
    return " and ".join(on) if args.use_liger_kernel and on else None


def is_fsdp1(accelerator: Any) -> bool:
    """Whether accelerate shards with FSDP's first version, whose parameters are flat pieces."""
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    return plugin is not None and getattr(plugin, "fsdp_version", 1) == 1


def _steps_in_backward(optimizer: str) -> bool:
    return optimizer in ("lomo", "adalomo") or optimizer.endswith("layerwise")


def _is_encoder_decoder(model: Any) -> bool:
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def check_rows(rows: int | None, min_rows: int) -> None:
    """Errors: SamplewiseError where no micro-batch can be made of the data; `rows` is None for a stream."""
    if rows is None or rows >= min_rows:
        return
    raise SamplewiseError(
        "train_dataset", expected=f"at least {min_rows} row{'' if min_rows == 1 else 's, a micro-batch'}",
        got=f"{rows or 'no'} row{'' if rows == 1 else 's'}",
        remedy="Look at what reads or filters the data." if rows == 0 else "dataloader_drop_last leaves them all out.",
    )  # fmt: skip


def outside_of_train() -> SamplewiseError:
    """The error of a micro-batch that belongs to no planned step: its weights are not known."""
    return SamplewiseError(
        "training_step", expected="a micro-batch of a step that train() has planned", got="another one",
        remedy="Weights need the whole step: call train(); for a loop of your own take "
        "samplewise.trainers.loop, or samplewise.weights.",
    )  # fmt: skip


def ended_before_a_step(micro_batches: int, accumulated: int) -> SamplewiseError:
    """The error of data that ends before the first step."""
    return SamplewiseError(
        "train_dataset", expected=f"at least one step of {accumulated} micro-batches" if micro_batches else "rows",
        got=f"{micro_batches}, then its end" if micro_batches else "none from the loader",
        remedy="Give more data, or lower gradient_accumulation_steps." if micro_batches
        else "Look at what reads or filters the data.",
    )  # fmt: skip


def check_step_size(rule: Rule, configured: int, last: int, pool: int = 1, largest: int | None = None) -> None:
    """Try the rule on as many samples as a step has, and as the last, shorter step of an epoch has (0: none).

    pool: how many times as many candidates a step has as rows are trained on. largest: how many samples a step of the
    run can have at most, where steps differ: only where not even so many are enough can the rule never act.

    Errors: SamplewiseError, before any training, if the rule has nothing to keep there, or never an effect.
    """
    short = shortfall(rule, configured if largest is None else largest)
    if short is not None:
        raise short
    if configured == 1 and rule.needs_loss:
        raise SamplewiseError(
            "gradient_accumulation_steps, per_device_train_batch_size",
            expected="a step of at least 2 samples", got="1 (the weight of a lone sample is the constant 1)",
            remedy="Raise one of them: the rule weighs the samples of a whole step.",
        )  # fmt: skip
    kept, state = _try(rule, configured, rule.init())
    if kept * pool > configured:
        raise SamplewiseError(
            "pool", expected=f"a rule that keeps at most 1 in {pool} candidates",
            got=f"{kept} of {configured} from {rule}",
            remedy=f"Use a rule such as top_k({1 / pool:.3g}), or a smaller pool.",
        )  # fmt: skip
    if last:
        check_last_step(
            rule, state, last, "each epoch",
            f"Or leave out {last} of the rows, or set dataloader_drop_last, so that every step is full.",
        )  # fmt: skip


def check_packed(rule: Rule, samples: int, rows: int, pool: int, largest: int) -> None:
    """`check_step_size` for rows of several samples each; its errors say how many samples the rows of a step hold."""
    try:
        check_step_size(rule, samples, 0, pool, largest)
    except SamplewiseError as error:
        raise SamplewiseError(
            error.argument, expected=error.expected, got=f"{error.got} (a step has {rows} packed rows, of about "
            f"{samples} samples in total and at most {largest})", remedy=error.remedy,
        ) from None  # fmt: skip


def check_last_step(rule: Rule, state: State, last: int, of: str, remedy: str) -> None:
    """Try the rule on the last step of an epoch. Errors: SamplewiseError, its own with `of` and `remedy`."""
    try:
        _try(rule, last, state)
    except SamplewiseError as error:
        raise SamplewiseError(
            error.argument, expected=error.expected, got=f"{error.got} in the last step of {of}",
            remedy=f"{error.remedy} {remedy}",
        ) from None  # fmt: skip


def shortfall(rule: Rule, n: int) -> SamplewiseError | None:
    """The shortfall of the rule at its first step, if that step has n samples; None if there is none."""
    samples, ones = _made_up(n)
    return rule.shortfall(ones, samples, rule.init())


def _made_up(n: int) -> tuple[Samples, Tensor]:
    losses = torch.linspace(1.0, 2.0, n, dtype=torch.float64)
    ones, ids = torch.ones_like(losses), torch.arange(n)
    samples = Samples(losses, torch.ones(n, dtype=torch.int64), ids, weight=ones, reference=ones, group=ids % 2,
                      stored_loss=losses)  # fmt: skip
    return samples, ones


def _try(rule: Rule, n: int, state: State) -> tuple[int, State]:
    samples, ones = _made_up(n)
    kept = int((rule.apply(ones, samples, state) > 0).sum())
    return kept, rule.update(samples, ones, state)


def check_micro_batch(rows: int) -> None:
    """Warn about `normalize="micro"`. Errors: SamplewiseError for micro-batches of one row, where every weight is 1."""
    if rows < 2:
        raise SamplewiseError(
            "normalize", expected="'step', or micro-batches of at least 2 rows", got=f"'micro' with {rows}",
            remedy="Use normalize='step', or more rows: a sample alone in its micro-batch always has weight 1.",
        )  # fmt: skip
    logger.warning(
        "normalize='micro': weights are normalized within each micro-batch of %d rows and each rank, so they depend on "
        "how the step is split. normalize='step' is exact.", rows
    )  # fmt: skip


def check_again(trainer: Any, asked: int, rows: int) -> None:
    """The checks of a run that the Trainer starts over: as a trial, or with `rows` rows a micro-batch, not `asked`."""
    if rows != asked:
        logger.warning(
            "auto_find_batch_size: micro-batches have %d rows, not %d. Steps are smaller by as much, and the rule "
            "weighs fewer samples", rows, asked
        )  # fmt: skip
    refuse_options(trainer)
    if trainer.options.normalize == "micro":
        check_micro_batch(rows)


def check_collator(trainer: Any) -> None:
    """Errors: SamplewiseError if the collator pads with a tokenizer that has no pad token."""
    tokenizer = getattr(trainer.data_collator, "tokenizer", None)
    if tokenizer is not None and getattr(tokenizer, "pad_token_id", 0) is None:
        raise SamplewiseError(
            "pad_token", expected="a tokenizer with a pad token", got="none",
            remedy="Set it; tokenizer.pad_token = tokenizer.eos_token is the usual choice.",
        )  # fmt: skip


def check_batch(batch: dict[str, Any]) -> None:
    """Errors: SamplewiseError if a training batch lacks labels or ids."""
    if "labels" not in batch:
        raise SamplewiseError(
            "train_dataset", expected="batches with 'labels'", got=f"the keys {sorted(batch)}",
            remedy="Add a labels column, or pass DataCollatorForLanguageModeling(tokenizer, mlm=False).",
        )  # fmt: skip
    if ID not in batch:
        raise SamplewiseError(
            "train_dataset", expected=f"batches with '{ID}'", got=f"the keys {sorted(batch)}",
            remedy="In get_train_dataloader, build the DataLoader from self.train_dataset and self.data_collator.",
        )  # fmt: skip
    if SEGMENTS not in batch and len(batch[ID]) != len(batch["labels"]):
        raise SamplewiseError(
            "data_collator", expected=f"a row for each of {len(batch[ID])} samples", got=f"{len(batch['labels'])} rows",
            remedy="Build the collator's batch from the rows it is given, all of them, in order.",
        )  # fmt: skip


def check_columns(rule: Rule, names: list[str] | None, given: set[str]) -> None:
    """Before any step: the data must have the columns that the rule reads; a weight column it ignores is warned of.

    names: the dataset's columns; None where they are not known beforehand. given: fields that come from elsewhere.
    """
    if names is None:
        return
    for column, field in FIELDS.items():
        if field in rule.required_fields - given and column not in names:
            raise SamplewiseError(
                "train_dataset", expected=f"a column {column}, which {rule} reads", got=f"the columns {sorted(names)}",
                remedy=f"Add one value a sample under that name, or use a rule that needs no {field}.",
            )  # fmt: skip
    if WEIGHT in names and "weight" not in rule.required_fields:
        logger.warning(
            "the data has a column %s, which %s does not use; chain(column_weights(), …) multiplies by it", WEIGHT, rule
        )


def warn_if_eos_is_masked(batch: dict[str, Any], trainer: Any) -> None:
    """Warn if the collator took true end-of-text tokens for padding, as it does where both have one id.

    A collator that masks by id masks all of them; where some are predicted, the others end what is not learned, such as
    the messages of a user.
    """
    mask, ids = batch.get("attention_mask"), batch.get("input_ids")
    if mask is None or ids is None or mask.shape != batch["labels"].shape:
        return
    for eos in _padding_ends(trainer):
        ends = (mask != 0) & (ids == eos)
        lost = int((ends & (batch["labels"] == IGNORED)).sum())
        if lost and lost == int(ends.sum()):
            logger.warning(
                "%d end-of-text tokens of the first micro-batch are not predicted: the collator masks by id, and the "
                "pad token has the same id. Use samplewise.data.PadCollator, which masks by attention.", lost
            )  # fmt: skip


def _padding_ends(trainer: Any) -> set[int]:
    """The ids that are EOS and padding at once, by any tokenizer that the trainer knows of, or by the model."""
    collator, given = trainer.data_collator, trainer.processing_class
    tokenizers = [given, getattr(given, "tokenizer", None)]
    tokenizers += [getattr(collator, name, None) for name in ("tokenizer", "processing_class")]
    found = [(getattr(each, "eos_token_id", None), getattr(each, "pad_token_id", None)) for each in tokenizers]
    config = getattr(trainer.model, "config", None)
    found += [(getattr(config, "eos_token_id", None), getattr(config, "pad_token_id", None))]
    pairs = [(eos if isinstance(eos, list) else [eos], pad) for eos, pad in found]
    return {pad for eos, pad in pairs if isinstance(pad, int) and pad in eos}
