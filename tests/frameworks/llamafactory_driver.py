"""The command line of LLaMA-Factory with weights, with the gradient of its first step written to a file.

v1 takes no pre-tokenised rows: a template of its registry, `ids`, reads words that are ids.
"""

import os
import sys
from pathlib import Path

import same_rows
import torch
from llamafactory.v1.plugins.model_plugins.rendering import RenderingPlugin

from samplewise.trainers import llamafactory


@RenderingPlugin("ids").register("render_messages")
def render(processor, messages, tools=None, is_generate=False, enable_thinking=False):
    """Each word is an id, and nothing stands between messages."""
    ids, labels, weights = [], [], []
    for message in messages:
        own = [int(word[1:]) for word in message["content"][0]["value"].split()]
        weight = message["loss_weight"]
        ids += own
        labels += own if weight > 0 else [-100] * len(own)
        weights += [weight] * len(own)
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels, "loss_weights": weights}


if __name__ == "__main__":
    if not torch.accelerator.is_available():  # v1 calls it in each step of several processes, on a CPU too
        torch.accelerator.synchronize = lambda *_: None
    path = Path(f"{sys.argv.pop(1)}-{os.environ.get('RANK', '0')}")
    with same_rows.catch_gradient(path):
        llamafactory.main()
