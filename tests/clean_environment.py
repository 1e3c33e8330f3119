"""An environment with the packages that some requirements bring, and no other: linked from the one that runs the tests.

It needs no index and no pip, and takes a second, so that the wheel can be tried with each extra alone.
"""

import importlib.metadata as metadata
import subprocess
import sys
import zipfile
from pathlib import Path

from packaging.requirements import Requirement


def closure(requirements: list[str], extra: str = "") -> set[str]:
    """The names of the distributions that the requirements bring, their requirements included."""
    found: dict[tuple[str, str], None] = {}
    todo = [(Requirement(each), extra) for each in requirements]
    while todo:
        requirement, wanted = todo.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": wanted}):
            continue
        for asked in ("", *requirement.extras):
            if (key := (requirement.name.lower(), asked)) not in found:
                found[key] = None
                todo += [(Requirement(each), asked) for each in metadata.requires(requirement.name) or ()]
    return {name for name, _ in found}


def top_level(name: str) -> set[Path]:
    """What a distribution puts into site-packages, one path for each folder or module."""
    distribution = metadata.distribution(name)
    base = Path(str(distribution.locate_file("")))
    parts = {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}
    return {base / part for part in parts}


def make(folder: Path, wheel: Path, extra: str = "") -> Path:
    """The Python of an environment at `folder` with the wheel unpacked, and what it and its extra require."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    (info,) = site.glob("samplewise-*.dist-info/METADATA")
    declared = metadata.PathDistribution(info.parent).requires or []
    for name in closure(wanted(declared, extra)):
        for path in top_level(name):
            if not (site / path.name).exists():
                (site / path.name).symlink_to(path)
    return folder / "bin" / "python"


def wanted(declared: list[str], extra: str) -> list[str]:
    """What the wheel requires with one extra, those extras of its own that it names included."""
    everything = [Requirement(each) for each in declared]
    chosen = [each for each in everything if each.marker is None or each.marker.evaluate({"extra": extra})]
    own = [name for each in chosen if each.name == "samplewise" for name in each.extras]
    for each in chosen:
        each.marker = None
    plain = [str(each) for each in chosen if each.name != "samplewise"]
    return plain + [more for name in own for more in wanted(declared, name)]
