"""The package runs on torch 2.11: it uses no name that only a later torch has."""

import re
from pathlib import Path

import torch_names


def test_the_package_uses_no_name_that_torch_2_11_lacks():
    newer = torch_names.newer()
    found = {name: sorted(files) for name, files in torch_names.used().items() if name in newer}
    assert not found, f"torch 2.11 lacks these; look them up with getattr, and say what is done without: {found}"


def test_the_list_was_made_with_the_torch_of_the_constraints():
    constraints = (Path(__file__).parents[1] / "constraints.txt").read_text(encoding="utf-8")
    pinned = re.search(r"^torch==(.*)$", constraints, re.MULTILINE)
    assert pinned is not None
    assert f"torch {pinned[1]} has" in torch_names.RECORD.read_text(encoding="utf-8").splitlines()[0]


def test_newer_names_are_found_however_they_are_reached():
    found = torch_names.names_in("""
import torch, torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn import LinearCrossEntropyLoss as Loss

def f(x):
    dist.all_gather_single(x)
    return F.linear_cross_entropy(x, nn.LinearCrossEntropyOptions()), torch.stack([x]).const_data_ptr(), Loss
""")
    assert found & torch_names.newer() == {
        "torch.distributed.all_gather_single", "torch.nn.functional.linear_cross_entropy",
        "torch.nn.LinearCrossEntropyOptions", "torch.nn.LinearCrossEntropyLoss", ".const_data_ptr",
    }  # fmt: skip
