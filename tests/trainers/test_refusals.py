"""What cannot be combined with sample weighting, and input that cannot be trained on: one exception that names it."""

import json
from types import SimpleNamespace

import pytest
import tiny
import torch
import transformers
from transformers import Trainer

import samplewise as sw
from samplewise.trainers import WeightedMixin, WeightedTrainer, checks, parallelism


def trainer(tmp_path, model=None, cls=WeightedTrainer, rule="ir_dro(r=1.0)", dataset=None, options=None, **arguments):
    return cls(
        model or tiny.model(), tiny.arguments(tmp_path, **arguments), train_dataset=dataset or tiny.Rows(24),
        **{"data_collator": tiny.collate, "rule": rule, **(options or {})},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [
        ("label_smoothing_factor", {"label_smoothing_factor": 0.1}, {}),
        (
            "compute_loss_func",
            {},
            {"compute_loss_func": lambda outputs, labels, num_items_in_batch: outputs["logits"].sum()},
        ),
        ("use_liger_kernel", {"use_liger_kernel": True}, {}),
        ("use_liger_kernel", {"use_liger_kernel": True, "liger_kernel_config": {"rms_norm": False}}, {}),
        (
            "use_liger_kernel",
            {
                "use_liger_kernel": True,
                "liger_kernel_config": {"fused_linear_cross_entropy": False, "cross_entropy": True},
            },
            {},
        ),
        ("optim", {"optim": "galore_adamw_layerwise", "optim_target_modules": ["mlp"]}, {}),
        ("optim", {"optim": "lomo"}, {}),
        ("rule", {}, {"rule": None}),
        ("rule", {}, {"rule": 3}),
        ("per", {}, {"per": "word"}),
        ("normalize", {}, {"normalize": "batch"}),
    ],
)
def test_refused_by_name(tmp_path, name, arguments, options, monkeypatch):
    monkeypatch.setattr("transformers.trainer.is_liger_kernel_available", lambda *a: True, raising=False)
    monkeypatch.setattr("transformers.training_args.is_liger_kernel_available", lambda *a: True, raising=False)
    with pytest.raises(sw.SamplewiseError, match=rf"^{name}"):
        trainer(tmp_path, options=options, **arguments)


def test_ligers_kernels_for_layers_are_applied(tmp_path, monkeypatch):
    """Without its losses, it is the host that applies them, and weights are what they are without it."""
    applied = []
    monkeypatch.setattr("transformers.trainer.is_liger_kernel_available", lambda *a: True, raising=False)
    monkeypatch.setattr("transformers.training_args.is_liger_kernel_available", lambda *a: True, raising=False)
    monkeypatch.setattr("transformers.trainer.apply_liger_kernel", lambda model, config: applied.append(config))
    kernels = {"fused_linear_cross_entropy": False, "rms_norm": True}
    ours = trainer(tmp_path, use_liger_kernel=True, liger_kernel_config=kernels)
    plain = trainer(tmp_path)
    losses = [[h["loss"] for h in (t.train(), t.state.log_history)[1] if "loss" in h] for t in (ours, plain)]
    assert applied == [kernels]
    assert losses[0] == losses[1]


def test_data_parallel_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(transformers.TrainingArguments, "n_gpu", property(lambda self: 2))
    with pytest.raises(sw.SamplewiseError, match="DataParallel"):
        trainer(tmp_path)


def test_the_first_version_of_fsdp_is_refused(tmp_path, monkeypatch):
    for version in (1, 2):
        plugin = SimpleNamespace(state=SimpleNamespace(fsdp_plugin=SimpleNamespace(fsdp_version=version)))
        assert checks.is_fsdp1(plugin) == (version == 1)
    monkeypatch.setattr(checks, "is_fsdp1", lambda accelerator: True)
    with pytest.raises(sw.SamplewiseError, match=r"^fsdp: "):
        trainer(tmp_path)


def test_a_step_that_cannot_be_discarded_is_refused(tmp_path, monkeypatch):
    """DeepSpeed has reduced its gradients by the time a rule that needs no loss meets one that is not finite."""
    for used in ("hf", "accelerators"):
        monkeypatch.setattr(f"samplewise.trainers.{used}.has_deepspeed", lambda accelerator: True)
    model = tiny.model()
    with torch.no_grad():
        model.get_input_embeddings().weight[tiny.Rows(24)[0]["input_ids"][0]] = float("nan")
    with pytest.raises(sw.SamplewiseError, match="DeepSpeed's gradients cannot be discarded"):
        trainer(tmp_path, model, rule="uniform()", max_steps=6).train()


@pytest.mark.parametrize(
    ("name", "got", "remedy", "accelerator", "model"),
    [
        ("parallelism_config", "context parallelism", "one rank", {"parallelism_config": {"cp_enabled": True}}, {}),
        ("parallelism_config", "sequence parallelism", "one rank", {"parallelism_config": {"sp_enabled": True}}, {}),
        ("parallelism_config", "tensor parallelism", "FSDP2", {"parallelism_config": {"tp_enabled": True}}, {}),
        ("distributed_config", "tp_size=2, pp_size=4", "FSDP2", {},
         {"config": {"distributed_config": {"tp_size": 2, "pp_size": 4, "ep_size": 1, "fsdp_size": 2}}}),
        ("tp_plan", "tensor parallelism", "FSDP2", {}, {"_tp_size": 2}),
        ("device_map", "layers on the devices 0, 1", "without it", {}, {"hf_device_map": {"model": 0, "lm_head": 1}}),
        ("megatron_lm_plugin", "Megatron-LM", "FSDP2", {"distributed_type": "MEGATRON_LM"}, {}),
    ],
)  # fmt: skip
def test_a_model_that_is_split_over_ranks_is_refused(tmp_path, monkeypatch, name, got, remedy, accelerator, model):
    """The settings are looked at, no more: none of them runs here."""
    nested = json.loads(json.dumps([accelerator, model]), object_hook=lambda each: SimpleNamespace(**each))
    if "hf_device_map" in model:
        nested[1].hf_device_map = model["hf_device_map"]
    found = parallelism.split_models(SimpleNamespace(accelerator=nested[0], model=nested[1]))
    assert [each[0] for each in found if each[1]] == [name]
    monkeypatch.setattr(checks, "split_models", lambda trainer: found)
    with pytest.raises(sw.SamplewiseError, match=rf"^{name}: .*{got}.*{remedy}"):
        trainer(tmp_path)


def test_a_model_that_is_whole_on_each_rank_is_not_refused(tmp_path):
    assert not any(value for _, value, _ in parallelism.split_models(trainer(tmp_path)))


def test_a_loss_of_the_users_own_is_refused(tmp_path):
    class Mine(Trainer):
        def compute_loss(self, *args, **kwargs):
            return 2 * super().compute_loss(*args, **kwargs)

    with pytest.raises(sw.SamplewiseError, match=r"^Mine.compute_loss"):
        trainer(tmp_path, cls=type("T", (WeightedMixin, Mine), {}))


def test_an_encoder_decoder_is_refused(tmp_path):
    config = transformers.T5Config(
        vocab_size=37, d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8, decoder_start_token_id=0
    )
    with pytest.raises(sw.SamplewiseError, match=r"^model"):
        trainer(tmp_path, transformers.T5ForConditionalGeneration(config))


def test_a_step_of_one_sample_is_refused_but_a_last_one_of_one_is_fine(tmp_path):
    one = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1}
    with pytest.raises(sw.SamplewiseError, match="constant 1"):
        trainer(tmp_path, **one).train()
    trainer(tmp_path, rule="uniform()", **one).train()
    short = trainer(tmp_path, dataset=tiny.Rows(9), num_train_epochs=1, max_steps=-1)
    short.train()
    assert short.state.global_step == 2


@pytest.mark.parametrize(
    ("rule", "rows", "message"),
    [
        ("band(drop_top=0.1)", 24, "at least 10 samples.*got 8 samples"),
        ("mid_ranking(0.1, 1)", 24, "at least 10 samples.*got 8 samples"),
        ("top_k(0.25)", 27, "at least 4 samples.*got 3 samples in the last step of each epoch"),
    ],
)
def test_shares_that_act_on_nothing_are_refused_before_training(tmp_path, rule, rows, message):
    with pytest.raises(sw.SamplewiseError, match=message):
        trainer(tmp_path, rule=rule, dataset=tiny.Rows(rows), num_train_epochs=1, max_steps=-1).train()


def test_a_rule_that_selects_nothing(tmp_path):
    from samplewise.rules.base import make_rule

    nothing = make_rule("nothing()", lambda weights, samples, state: torch.zeros_like(weights))
    with pytest.raises(sw.SamplewiseError, match=r"at least one sample with a weight other than 0.*nothing\(\)"):
        trainer(tmp_path, rule=nothing).train()


class WithoutLabels(tiny.Rows):
    def __getitem__(self, index):
        return {"input_ids": self.rows[index][:3]}


class AllMasked(tiny.Rows):
    def __getitem__(self, index):
        row = super().__getitem__(index)
        return {**row, "labels": torch.full_like(row["labels"], -100)}


def test_data_that_cannot_be_trained_on(tmp_path):
    with pytest.raises(sw.SamplewiseError, match=r"'labels'.*DataCollatorForLanguageModeling"):
        trainer(
            tmp_path, dataset=WithoutLabels(24), options={"data_collator": transformers.default_data_collator}
        ).train()
    for normalize in ("step", "micro"):
        with pytest.raises(sw.SamplewiseError, match="at least one predicted token in a step"):
            trainer(tmp_path, dataset=AllMasked(24), options={"normalize": normalize}).train()
    with pytest.raises(sw.SamplewiseError, match="rows that are mappings"):
        trainer(tmp_path, dataset=[torch.arange(4)] * 24).train()


def tokenizer(**special):
    from tokenizers import Tokenizer, models

    vocabulary = {f"t{i}": i for i in range(tiny.VOCABULARY)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="t0"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def test_a_missing_pad_token_is_named(tmp_path):
    collator = transformers.DataCollatorForLanguageModeling(tokenizer(eos_token="t2"), mlm=False)
    with pytest.raises(sw.SamplewiseError, match=r"^pad_token"):
        trainer(tmp_path, options={"data_collator": collator}).train()


class EndsWithEos(tiny.Rows):
    def __getitem__(self, index):
        return {"input_ids": [*self.rows[index].tolist(), 2], "attention_mask": [1] * (len(self.rows[index]) + 1)}


@pytest.mark.parametrize("known_by", ["both", "collator", "processor", "model"])
def test_a_collator_that_masks_true_eos_as_padding_is_pointed_out(tmp_path, caplog, known_by):
    words, model = tokenizer(eos_token="t2", pad_token="t2"), tiny.model()
    collator = transformers.DataCollatorForLanguageModeling(words, mlm=False)
    options = {"data_collator": collator} | ({"processing_class": words} if known_by == "both" else {})
    if known_by in ("processor", "model"):  # a function has no tokenizer to ask
        options["data_collator"] = lambda rows: collator(rows)
    weighted = trainer(tmp_path, model, dataset=EndsWithEos(24), options=options)
    if known_by == "processor":
        weighted.processing_class = SimpleNamespace(tokenizer=words, save_pretrained=lambda *a, **k: None)
    if known_by == "model":
        model.config.eos_token_id, model.config.pad_token_id = [9, 2], 2
    weighted.train()
    assert "4 end-of-text tokens of the first micro-batch are not predicted" in caplog.text


def test_ends_of_messages_that_are_not_learned_are_no_padding(tmp_path, caplog):
    class Answers(EndsWithEos):
        def __getitem__(self, index):
            row = super().__getitem__(index)
            ids = [5, 2, *row["input_ids"]]
            return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100, -100, *ids[2:]]}

    words = tokenizer(eos_token="t2", pad_token="t2")
    collator = transformers.DataCollatorForSeq2Seq(words)
    trainer(tmp_path, dataset=Answers(24), options={"data_collator": collator, "processing_class": words}).train()
    assert "end-of-text" not in caplog.text
