"""The random models that s1 to s5 start from: a learner, and a scorer of a fifth of its size.

    python results/corpora/small.py

Needs the tokenizer of results/corpora/prepare.py.
"""

from __future__ import annotations

from typing import Any

from common import ROOT
from transformers import AutoTokenizer

from samplewise.evidence.initial_model import random_model
from samplewise.models.flops import forward_cost

SHARED = {"model_type": "llama", "max_position_embeddings": 512, "tie_word_embeddings": True}
SIZES: dict[str, dict[str, Any]] = {
    "small": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4},
    "scorer": {"hidden_size": 48, "intermediate_size": 144, "num_hidden_layers": 2, "num_attention_heads": 3},
}


def main() -> None:
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "bpe")
    for name, size in SIZES.items():
        model = random_model({**SHARED, **size}, tokenizer, 0)
        model.save_pretrained(ROOT / f"{name}-random")
        tokenizer.save_pretrained(ROOT / f"{name}-random")
        count = sum(parameter.numel() for parameter in model.parameters())
        cost = forward_cost(model).per_token([(128, 127)])
        print(f"{name:<8}{count / 1e6:.2f} M parameters, a forward of {cost / 1e6:.2f} MFLOP a token")


if __name__ == "__main__":
    main()
