"""What a forward costs against torch's own counter, which counts the matrix products that are really run."""

import pytest
import tiny
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from samplewise.core.errors import SamplewiseError
from samplewise.models.flops import ForwardCost, forward_cost

OPT = {"ffn_dim": 64, "word_embed_proj_dim": 32}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 48, "num_key_value_heads": 2}


def model(kind: str, **more: object):
    config = AutoConfig.for_model(
        kind, vocab_size=97, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=64,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, **more,
    )  # fmt: skip
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()


def counted(of, rows: int, length: int) -> tuple[int, int]:
    """FLOPs of a forward, and of a forward with its backward. Eager attention: a CPU's fused one is not counted."""
    ids = torch.randint(3, 60, (rows, length))
    found = []
    for labels in (None, ids):
        with FlopCounterMode(display=False) as counter:
            out = of(ids, labels=labels, use_cache=False)
            if labels is not None:
                out.loss.backward()
        found.append(counter.get_total_flops())
    return found[0], found[1]


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("llama", {"intermediate_size": 80, "num_key_value_heads": 2}),
        ("llama", {"intermediate_size": 80, "tie_word_embeddings": True, "head_dim": 16}),
        ("gpt2", {}), ("opt", OPT),
    ],
)  # fmt: skip
@pytest.mark.parametrize("length", [8, 48])
def test_a_forward_costs_what_torch_counts(kind, more, length):
    own = model(kind, **more)
    forward, both = counted(own, 2, length)
    cost = forward_cost(own)
    assert 2 * cost.row(length, length) == pytest.approx(forward, rel=0.02)
    assert 3 * 2 * cost.row(length, length) == pytest.approx(both, rel=0.02)


def test_of_experts_those_are_counted_that_a_token_is_sent_to():
    own = model("mixtral", **EXPERTS)
    sizes = {key: matrix.numel() for key, matrix in own.named_parameters() if matrix.dim() > 1}
    routed = sum(size for key, size in sizes.items() if ".experts." in key)
    dense = sum(sizes.values()) - routed - 2 * 97 * 32  # without embeddings and head
    assert forward_cost(own).position == 2 * (dense + routed / 2)
    own.config.num_experts_per_tok = 0
    with pytest.raises(SamplewiseError, match="parameters a token's forward can be counted by, got experts"):
        forward_cost(own)


def test_a_model_without_a_head_is_named():
    with pytest.raises(SamplewiseError, match=r"^scorer: .*no output embeddings"):
        forward_cost(tiny.model("llama").model, "scorer")


def test_the_price_of_a_token_is_the_mean_over_rows():
    cost = ForwardCost(position=2.0, predicted=10.0, pair=1.0)
    assert cost.per_token([(4, 3), (2, 1)]) == (54 + (2 * (2 + 2) + 10)) / 4
