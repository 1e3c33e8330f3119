"""transformers and datasets without their own bars and notes."""

from __future__ import annotations

import os
import sys

HUSHED = {
    "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}  # fmt: skip


def hush() -> None:
    """Let transformers and datasets log only errors, and show no progress bars.

    By their environment variables, which they read as they are imported: an import here would take seconds, and some
    commands need neither.
    """
    for name, value in HUSHED.items():
        os.environ.setdefault(name, value)
    if "transformers" in sys.modules or "huggingface_hub" in sys.modules:
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
    if "datasets" in sys.modules:
        from datasets.utils.logging import disable_progress_bar

        disable_progress_bar()
