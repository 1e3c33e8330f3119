"""Settings of axolotl that cannot be combined with sample weighting: refused by name, before any data is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samplewise.core.errors import SamplewiseError

SUPERVISED = "Leave it out: only supervised fine-tuning is weighted here."
OWN_LOSS = "Set it to false: the weighted loss takes its place, and builds no logits."
WHOLE = "Set it to 1: all tokens of a sample must be on one rank."
BOUNDARIES = "List the data under `datasets`: a stream joins and cuts documents, so that samples have no boundaries."

REFUSED = {
    **dict.fromkeys(
        ("rl", "reward_model", "process_reward_model", "orpo_alpha", "kd_trainer", "diffusion_lm", "mora"), SUPERVISED
    ),
    **dict.fromkeys(("pretraining_dataset", "streaming"), BOUNDARIES),
    **dict.fromkeys(
        (
            "chunked_cross_entropy", "liger_cross_entropy", "liger_fused_linear_cross_entropy", "cut_cross_entropy",
            "use_dft", "use_eaft",
        ), OWN_LOSS,
    ),
    "processor_type": "Remove it, and train on text: images are not supported yet.",
    "use_pose": "Leave it out: it cuts a sample into pieces with gaps between their positions.",
    "balance_labels": "Leave it out: it reads axolotl's collator, which is wrapped to keep the columns of samples.",
    "layer_offloading": "Leave it out: scoring runs outside the step in which layers are loaded.",
    "trainer_cls": "Leave it out, or train in Python with `class T(WeightedMixin, MyTrainer)`.",
}  # fmt: skip
PARALLEL = ("context_parallel_size", "sequence_parallel_degree", "tensor_parallel_size", "expert_parallel_size")
CUT_CROSS_ENTROPY = "CutCrossEntropyPlugin"


def refuse_settings(cfg: Mapping[str, Any]) -> None:
    """Errors: SamplewiseError naming the first setting that is on and cannot be combined with weights."""
    for name, remedy in REFUSED.items():
        if cfg.get(name):
            raise _refusal(name, cfg[name], remedy)
    for name in PARALLEL:
        if (cfg.get(name) or 1) > 1:
            raise _refusal(name, cfg[name], WHOLE)
    for plugin in cfg.get("plugins") or []:
        if str(plugin).endswith(CUT_CROSS_ENTROPY) and cfg.get("cut_cross_entropy") is not False:
            raise _refusal("plugins", plugin, "Remove it: the weighted loss takes its place, and builds no logits.")


def _refusal(name: str, got: object, remedy: str) -> SamplewiseError:
    return SamplewiseError(
        name, expected="a setting that can be combined with sample weighting", got=repr(got), remedy=remedy
    )
