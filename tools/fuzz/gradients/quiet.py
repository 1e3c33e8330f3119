"""Libraries that say nothing, and one thread a process."""

from __future__ import annotations

import logging
import os
import warnings


def quiet() -> None:
    """Before many small models are trained."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore")
    import gc

    import datasets
    import torch
    import transformers
    import trl  # noqa: F401

    import samplewise.trainers.trl  # noqa: F401

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    gc.collect()
    gc.freeze()  # a collection, which accelerate asks for at each `train()`, does not look at what was imported
