"""axolotl's own command, with the plugin: the same rows give the same gradient, padded and packed; what is refused."""

import json

import pytest
import same_rows
import torch
import yaml
from axolotl.cli.config import load_cfg
from axolotl.cli.main import cli
from axolotl.integrations.base import BasePlugin, PluginManager
from axolotl.utils.collators import DataCollatorForSeq2Seq
from safetensors.torch import load_file
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from samplewise import SamplewiseError

pytestmark = pytest.mark.filterwarnings("ignore")  # axolotl's own, and those of what it imports
PLUGIN = "samplewise.trainers.axolotl.SamplewisePlugin"
WEIGHTED = {"plugins": [PLUGIN], "samplewise": {"rule": same_rows.RULE}}
TOKENS = sum(len(row["input_ids"]) for row in same_rows.rows())
PACKED = {  # four rows of about eight samples
    "sample_packing": True, "sequence_len": TOKENS // 4 + 12, "micro_batch_size": 2, "gradient_accumulation_steps": 2,
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A function that writes a YAML file, with these changes to the one all share, and returns its path."""
    same_rows.tiny_model().save_pretrained(tmp_path / "model")
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(same_rows.VOCABULARY)}, unk_token="w3"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="w1", eos_token="w2", pad_token="w0", unk_token="w3"
    )
    tokenizer.save_pretrained(tmp_path / "model")
    written(tmp_path / "rows.jsonl", same_rows.rows())
    base = {
        "base_model": str(tmp_path / "model"),
        "datasets": [{"path": str(tmp_path / "rows.jsonl"), "ds_type": "json", "type": None}],
        "dataset_prepared_path": str(tmp_path / "prepared"), "dataset_num_proc": 1, "output_dir": str(tmp_path / "out"),
        "sequence_len": 64, "micro_batch_size": same_rows.MICRO, "gradient_accumulation_steps": same_rows.ACCUMULATION,
        "max_steps": 1, "num_epochs": 1, "learning_rate": 0.01, "optimizer": "adamw_torch", "lr_scheduler": "constant",
        "max_grad_norm": 0, "bf16": False, "fp16": False, "tf32": False, "attn_implementation": "eager",
        "logging_steps": 1, "save_strategy": "no", "val_set_size": 0, "dataloader_pin_memory": False, "seed": 3,
    }  # fmt: skip

    def write(changes, name="run"):
        path = tmp_path / f"{name}.yml"
        config = {**base, "output_dir": str(tmp_path / name), **changes}
        path.write_text(yaml.safe_dump({k: v for k, v in config.items() if v != "absent"}))
        return path

    return write


@pytest.fixture(autouse=True)
def plugins():
    """Those that a test's configuration names are forgotten after it: axolotl keeps them for the whole process."""
    kept = PluginManager.get_instance().plugins
    before = dict(kept)
    yield
    kept.clear()
    kept.update(before)


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def train(path):
    cli.main(["train", str(path), "--launcher", "python"], standalone_mode=False)


FORMS = {
    "padded": {},
    "packed": PACKED,
    "packed, sdpa": PACKED | {"attn_implementation": "sdpa"},
    "packed, numbered mask": PACKED | {"attn_implementation": "absent"},
    "packed, one row": PACKED | {"micro_batch_size": 1, "gradient_accumulation_steps": 4},
    "packed, two passes": PACKED | {"samplewise": {"rule": f"chain(band(drop_top=0), {same_rows.RULE})"}},
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_rows_give_the_same_gradient(run, form):
    with same_rows.catch_gradient() as caught:
        train(run(WEIGHTED | FORMS[form]))
    assert (off := same_rows.distance(caught)) <= 1e-6, off


@pytest.mark.parametrize("changes", [{}, PACKED], ids=["padded", "packed"])
def test_uniform_per_token_is_axolotls_own_training_and_evaluation(run, tmp_path, changes):
    """Rows whose first token is not predicted: axolotl predicts it from the sample before, where rows are packed."""
    keys = ("input_ids", "attention_mask")  # axolotl's own packing takes no values of samples, such as ids
    rows = [{**{k: row[k] for k in keys}, "labels": [-100, *row["labels"][1:]]} for row in same_rows.rows()]
    data = [{"path": str(written(tmp_path / "masked.jsonl", rows)), "ds_type": "json", "type": None}]
    steps = {"datasets": data, "test_datasets": data, "max_steps": 3, "gradient_accumulation_steps": 2,
             "num_epochs": 3, "eval_steps": 1, "save_strategy": "steps", "save_steps": 3}  # fmt: skip
    uniform = {"plugins": [PLUGIN], "samplewise": {"rule": "uniform()", "per": "token"}}
    found = {}
    for name, own in (("plain", {}), ("ours", uniform)):
        train(run(steps | changes | steps | own, name))
        state = json.loads((tmp_path / name / "checkpoint-3" / "trainer_state.json").read_text())
        keys = ("loss", "eval_loss", "tokens/trainable")
        figures = [[entry.get(key) for key in keys] for entry in state["log_history"]]
        found[name] = load_file(tmp_path / name / "model.safetensors"), figures
    for key, value in found["plain"][0].items():
        torch.testing.assert_close(found["ours"][0][key], value, rtol=0, atol=2e-5)
    for ours, plain in zip(found["ours"][1], found["plain"][1], strict=True):
        assert ours == pytest.approx(plain, abs=2e-5)


def test_a_run_that_is_resumed(run, tmp_path):
    steps = WEIGHTED | PACKED | {"max_steps": 4, "gradient_accumulation_steps": 1, "num_epochs": 4}
    saved = {"save_strategy": "steps", "save_steps": 2}
    train(run(steps | saved, "whole"))
    checkpoint = tmp_path / "whole" / "checkpoint-2"
    assert (checkpoint / "samplewise" / "complete.json").exists()
    train(run(steps | {"resume_from_checkpoint": str(checkpoint)}, "resumed"))
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_columns_of_samples_survive_packing(run, tmp_path):
    """A weight of 0 for every row but those with the ids 100 to 107: the gradient is of these."""
    rows = [{**row, "sample_weight": float(row["sample_id"] < 108)} for row in same_rows.rows()]
    data = [{"path": str(written(tmp_path / "weighted.jsonl", rows)), "ds_type": "json", "type": None}]
    folder = tmp_path / "samples"
    section = {"rule": "column_weights()", "log_samples": str(folder)}
    train(run(WEIGHTED | PACKED | {"datasets": data, "samplewise": section}))
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(folder).to_pydict()
    assert sorted(table["id"]) == [row["sample_id"] for row in rows]
    kept = {number for number, weight in zip(table["id"], table["weight"], strict=True) if weight > 0}
    assert kept == set(range(100, 108))


# ---- what is refused ----

REFUSED = {
    "rl": "dpo", "reward_model": True, "orpo_alpha": 0.1, "pretraining_dataset": "rows", "streaming": True,
    "context_parallel_size": 2, "sequence_parallel_degree": 2, "tensor_parallel_size": 2, "expert_parallel_size": 2,
    "chunked_cross_entropy": True, "liger_cross_entropy": True, "liger_fused_linear_cross_entropy": True,
    "cut_cross_entropy": True, "use_dft": True, "use_eaft": True, "processor_type": "AutoProcessor", "use_pose": True,
    "balance_labels": True, "layer_offloading": True, "trainer_cls": "my.Trainer",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_cannot_be_combined(run, name):
    match = f"^{name}: expected a setting that can be combined with sample weighting, got {REFUSED[name]!r}. [A-Z].*"
    with pytest.raises(SamplewiseError, match=match):
        load_cfg(str(run(WEIGHTED | {name: REFUSED[name]})))


SECTIONS = {
    "a plugin without a section": (
        {"plugins": [PLUGIN]}, "^samplewise: expected a section with a rule beside the plugin .*remove the plugin"
    ),
    "a section without a plugin": (
        {"samplewise": {"rule": "uniform()"}}, f"^plugins: expected {PLUGIN} beside a section samplewise, got None. Add"
    ),
    "an unknown key": (
        WEIGHTED | {"samplewise": {"rul": "uniform()"}}, "^samplewise.rul: .* Did you mean rule?"
    ),
    "a wrong rule": (WEIGHTED | {"samplewise": {"rule": "ir_drop(r=1)"}}, "ir_drop.* Did you mean ir_dro"),
    "a wrong value": (WEIGHTED | {"samplewise": {"rule": "uniform()", "per": "row"}}, "^per: expected 'sample' or"),
    "cut cross entropy": (
        {**WEIGHTED, "plugins": [PLUGIN, "axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin"]},
        "^plugins: expected a setting that .*CutCrossEntropyPlugin'. Remove it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SECTIONS)
def test_sections_that_are_wrong(run, name):
    changes, match = SECTIONS[name]
    with pytest.raises(SamplewiseError, match=match):
        load_cfg(str(run(changes)))


class Dropping(DataCollatorForSeq2Seq):
    """A collator of someone else's, which leaves out the last row of a batch."""

    def __call__(self, features, return_tensors=None):
        return super().__call__(features[:-1], return_tensors)


class DroppingPlugin(BasePlugin):
    """Brings that collator."""

    def get_collator_cls_and_kwargs(self, cfg, is_eval=False):
        return (Dropping, {}) if cfg.plugins and f"{__name__}.DroppingPlugin" in cfg.plugins else None


class AnotherTrainer(BasePlugin):
    """Brings a trainer of its own."""

    def get_trainer_cls(self, cfg):
        from axolotl.core.trainers import AxolotlTrainer

        named = cfg.plugins and f"{__name__}.AnotherTrainer" in cfg.plugins
        return type("OtherTrainer", (AxolotlTrainer,), {}) if named else None


@pytest.mark.parametrize("first", [True, False])
def test_a_trainer_of_another_plugin(run, first):
    other = f"{__name__}.AnotherTrainer"
    plugins = [other, PLUGIN] if first else [PLUGIN, other]
    with pytest.raises(SamplewiseError, match=r"axolotl's own trainer, .*got the trainer OtherTrainer\. Leave"):
        train(run(WEIGHTED | {"plugins": plugins}))


def test_a_collator_that_leaves_out_rows(run):
    with pytest.raises(SamplewiseError, match="data_collator: expected a row for each of 4 samples"):
        train(run(WEIGHTED | {"plugins": [PLUGIN, f"{__name__}.DroppingPlugin"]}))


def test_a_rule_of_epochs_with_packed_rows(run):
    section = {"rule": 'infobatch(share=0.5, scope="epoch")'}
    with pytest.raises(SamplewiseError, match=r"sample_packing.*rows of one sample each"):
        train(run(WEIGHTED | PACKED | {"samplewise": section, "num_epochs": 3, "max_steps": "absent"}))
