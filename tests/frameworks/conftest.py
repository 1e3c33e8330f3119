"""A framework's tests run where it is installed: `make test-frameworks`, each in a virtual environment of its own."""

from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).parent
collect_ignore = [
    path.name
    for path in FOLDER.glob("test_*.py")
    if (name := path.stem.removeprefix("test_").split("__")[0]) != "plain" and find_spec(name) is None
]
collect_ignore += [path.name for path in FOLDER.glob("*.py") if not path.name.startswith(("test_", "same_rows"))]
