"""A term that a model adds to its loss counts once a step, however the step is split."""

import peft
import pytest
import tiny
import torch

from samplewise.trainers import WeightedStep


def gradient(splits: list[int], rule: str) -> torch.Tensor:
    """Of one step on the same 8 rows: AdaLoRA's orthogonality is a term of the parameters alone."""
    torch.manual_seed(1)
    config = peft.AdaLoraConfig(
        task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], total_step=20, orth_reg_weight=2.0
    )
    model = peft.get_peft_model(tiny.model(dtype=torch.float64), config).double().train()
    step, data, first, batches = WeightedStep(model, rule), tiny.Rows(8), 0, []
    for size in splits:
        rows = range(first, first + size)
        batches.append({**tiny.collate([data[i] for i in rows]), "sample_id": torch.tensor(rows)})
        first += size
    for micro in step.plan(batches):
        step.backward(micro)
    step.finish()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("rule", ["uniform()", "ir_dro(r=0.3)", "top_k(0.5)"])
def test_the_split_changes_nothing(rule):
    whole = gradient([8], rule)
    assert float(whole.norm()) > 0
    for splits in ([4, 4], [1, 3, 4], [2, 2, 2, 2]):
        assert float((gradient(splits, rule) - whole).norm() / whole.norm()) <= 1e-9
