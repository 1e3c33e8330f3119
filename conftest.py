"""Modules for what an environment of its own has are not looked through for examples where that is not installed."""

from importlib.util import find_spec

MODULES = {
    "axolotl": ["samplewise/trainers/axolotl.py"],
    "triton": ["samplewise/losses/kernels/residual_triton.py"],
    "llamafactory": ["samplewise/trainers/llamafactory.py", "samplewise/trainers/llamafactory_v1.py"],
    "swift": ["samplewise/trainers/swift.py"],
    "lightning": ["samplewise/trainers/lightning.py", "samplewise/trainers/lightning_checks.py"],
}
collect_ignore = [path for name, paths in MODULES.items() if find_spec(name) is None for path in paths]
collect_ignore_glob = [
    "*/conftest.py"
]  # their fixtures are used; as modules of one name they cannot be read for examples
