"""transformers and datasets without their own bars and notes."""

from __future__ import annotations

from importlib.util import find_spec

from transformers.utils import logging


def hush() -> None:
    """Let transformers and datasets log only errors, and show no progress bars."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if find_spec("datasets") is not None:
        from datasets.utils.logging import disable_progress_bar

        disable_progress_bar()
