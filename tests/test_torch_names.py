"""The package runs on torch 2.11: every name of torch that it uses was found there, and is still found here."""

import torch_names


def test_the_package_uses_no_name_of_torch_that_torch_2_11_lacks():
    used, known = torch_names.used(), torch_names.recorded()
    new = {name: sorted(files) for name, files in used.items() if name not in known}
    assert not new, f"not in torch 2.11, or not looked up there yet (tests/torch_names.py says how): {new}"


def test_every_recorded_name_is_in_this_torch():
    assert not [name for name in sorted(torch_names.recorded()) if not torch_names.exists(name)]


def test_names_that_only_a_later_torch_has_are_found_in_the_source():
    text = """
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn import Linear as Head

def f(x):
    return F.linear_cross_entropy(x, nn.LinearCrossEntropyOptions(), torch.new.thing(x).shape, Head)
"""
    assert torch_names.of_source(text) == {
        "torch.nn.functional", "torch.nn.functional.linear_cross_entropy", "torch.nn", "torch.new.thing",
        "torch.nn.LinearCrossEntropyOptions", "torch.nn.Linear",
    }  # fmt: skip
