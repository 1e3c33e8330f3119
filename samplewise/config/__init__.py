"""The run file: typed settings, read and checked key by key."""

from samplewise.config.run import (
    DataConfig,
    InstructionsConfig,
    LoraConfig,
    RunConfig,
    ScoreConfig,
    ScoresConfig,
    load_config,
)

__all__ = ["DataConfig", "InstructionsConfig", "LoraConfig", "RunConfig", "ScoreConfig", "ScoresConfig", "load_config"]
