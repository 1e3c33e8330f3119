"""The same model, the same 32 rows and the same rule in every framework, and what the gradient of their step must be.

A framework's test builds `tiny_model()`, trains one step on `rows()` in micro-batches of `MICRO` under
`catch_gradient()`, and asks `distance(caught)`. The expected gradient shares no code with the package.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY, ROWS, MICRO, ACCUMULATION, R = 61, 32, 4, 8, 0.5
RULE = f"ir_dro(r={R})"


def tiny_model() -> LlamaForCausalLM:
    """fp32, untied, without dropout; every parameter differs from all others, so that values tell which is which."""
    torch.manual_seed(11)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=256, initializer_range=0.2, attn_implementation="eager",
        **sizes, **special,
    )  # fmt: skip
    model = LlamaForCausalLM(config).float()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def rows() -> list[dict[str, Any]]:
    """32 rows of 4 to 20 tokens; labels are the ids, of every third row without its first half (a prompt)."""
    generator = torch.Generator().manual_seed(5)
    found = []
    for number in range(ROWS):
        length = int(torch.randint(4, 21, (1,), generator=generator))
        ids = torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()
        prompt = length // 2 if number % 3 == 0 else 0
        labels = [-100] * prompt + ids[prompt:]
        found.append({"input_ids": ids, "attention_mask": [1] * length, "labels": labels, "sample_id": 100 + number})
    return found


def expected_gradient() -> dict[str, Tensor]:
    """fp64, row by row: Σ p_i ∇L_i with p = softmax(L / r) over all 32 rows, p constant; L in nats per token."""
    model = tiny_model().double()
    losses = []
    for row in rows():
        logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
        losses.append(nn.functional.cross_entropy(logits, torch.tensor(row["labels"][1:])))
    loss = torch.stack(losses)
    (torch.softmax(loss.detach() / R, 0) * loss).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def names_by_value(parameters: list[Tensor]) -> dict[str, int]:
    """Which parameter is which, from the values that `tiny_model` gave them: frameworks rename and reorder them."""
    known = {name: p.detach() for name, p in tiny_model().named_parameters()}
    found = {}
    for name, value in known.items():
        for number, parameter in enumerate(parameters):
            if parameter.shape == value.shape and torch.equal(parameter.detach().float().cpu(), value):
                found[name] = number
    return found


def whole(tensor: Tensor) -> Tensor:
    """The tensor from all ranks' shards, where it is sharded (`fully_shard`)."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # pyright: ignore[reportCallIssue]


@contextmanager
def catch_gradient(path: Path | None = None) -> Generator[dict[str, Tensor]]:
    """The gradients at the first step of any optimizer of this process, by name; written to `path` if given.

    Without clipping: max_grad_norm must be 0 or large. Parameters must still have their first values.
    """
    caught: dict[str, Tensor] = {}

    def catch(optimizer: Any, *_: Any) -> None:
        if caught:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        for name, number in names_by_value([whole(p.detach()) for p in parameters]).items():
            gradient = parameters[number].grad
            assert gradient is not None
            gradient = whole(gradient)
            caught[name] = gradient.detach().clone().float().contiguous()
        if path is not None:
            save_file(caught, path)

    handle = register_optimizer_step_pre_hook(catch)
    try:
        yield caught
    finally:
        handle.remove()


def caught_at(path: Path) -> dict[str, Tensor]:
    """What `catch_gradient(path)` wrote in another process."""
    return load_file(path)


def distance(caught: dict[str, Tensor]) -> float:
    """Relative distance over all parameters, |got − expected| / |expected|. 1e-6 is right in fp32."""
    want = expected_gradient()
    assert caught.keys() == want.keys(), f"expected all parameters, got {sorted(caught)}"
    error = sum(float((caught[name].double() - want[name]).square().sum()) for name in want)
    return (error / sum(float(g.square().sum()) for g in want.values())) ** 0.5
