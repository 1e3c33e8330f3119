"""Models split over processes or devices so that a rank has no whole sample, or no whole layer."""

from __future__ import annotations

from typing import Any

FSDP2 = 'Use FSDP2, which splits parameters over ranks too: fsdp=True, fsdp_config={"version": 2}.'
ONE_RANK = "Disable it: all tokens of a sample must be on one rank."


def split_models(trainer: Any) -> list[tuple[str, str | None, str]]:
    """(option, what it turns on or None, what to use instead) for each way of splitting a model that is refused."""
    given = getattr(trainer.accelerator, "parallelism_config", None)
    loaded = getattr(getattr(trainer.model, "config", None), "distributed_config", None)
    kind = getattr(trainer.accelerator, "distributed_type", None)
    return [
        ("parallelism_config", _enabled(given, cp="context parallelism", sp="sequence parallelism"), ONE_RANK),
        ("parallelism_config", _enabled(given, tp="tensor parallelism"), FSDP2),
        ("distributed_config", _sizes(loaded), FSDP2),
        ("tp_plan", None if _tensor_parallel(trainer.model) < 2 else "tensor parallelism", FSDP2),
        ("device_map", _devices(trainer.model), f"Load the model without it, one process a GPU. {FSDP2}"),
        ("megatron_lm_plugin", "Megatron-LM" if getattr(kind, "value", kind) == "MEGATRON_LM" else None, FSDP2),
    ]


def _enabled(config: Any, **kinds: str) -> str | None:
    """What is enabled of these in a ParallelismConfig of accelerate."""
    on = [name for kind, name in kinds.items() if getattr(config, f"{kind}_enabled", False)]
    return " and ".join(on) or None


def _sizes(config: Any) -> str | None:
    """Of transformers' DistributedConfig, from which a model is loaded in parts; fsdp_size alone is FSDP2."""
    kinds = ("tp_size", "pp_size", "ep_size")
    found = [(kind, getattr(config, kind, None)) for kind in kinds]
    return ", ".join(f"{kind}={size}" for kind, size in found if isinstance(size, int) and size > 1) or None


def _tensor_parallel(model: Any) -> int:
    size = getattr(model, "_tp_size", None)
    return size if isinstance(size, int) else 1


def _devices(model: Any) -> str | None:
    """Layers on several devices of one process: a pipeline of one batch."""
    devices = {str(device) for device in (getattr(model, "hf_device_map", None) or {}).values()}
    return f"layers on the devices {', '.join(sorted(devices))}" if len(devices) > 1 else None
