"""Weights in axolotl: a plugin, and a section `samplewise:` in its YAML. axolotl's own trainer, samplers and collators.

```yaml
plugins: [samplewise.trainers.axolotl.SamplewisePlugin]
samplewise:
  rule: ir_dro(r=3.0)
```
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from axolotl.integrations.base import BasePlugin, PluginManager  # pyright: ignore[reportMissingImports]
from pydantic import BaseModel

from samplewise.core.errors import SamplewiseError, nearest
from samplewise.engine.options import WeightingOptions
from samplewise.engine.result import StepResult
from samplewise.trainers.axolotl_checks import refuse_settings
from samplewise.trainers.collate import PlainCollator
from samplewise.trainers.hf import WeightedMixin
from samplewise.trainers.loading import UNKNOWN_COUNT

NAME = "samplewise.trainers.axolotl.SamplewisePlugin"
OPTIONS = tuple(each.name for each in fields(WeightingOptions) if each.name != "losses")


class SamplewiseArgs(BaseModel):
    """What axolotl's configuration gains: the section, checked by `SamplewisePlugin.register` before this is built."""

    samplewise: dict[str, Any] | None = None


class WeightedAxolotlMixin(WeightedMixin):
    """`WeightedMixin` for `AxolotlTrainer`: options come from the section `samplewise:` of the run's configuration."""

    _allowed_hosts = ("transformers.", "axolotl.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("eval_data_collator") is not None:
            kwargs["eval_data_collator"] = PlainCollator(kwargs["eval_data_collator"])
        super().__init__(*args, **{**PluginManager.get_instance().cfg.samplewise, **kwargs})

    def _samples_in_rows(self, n_rows: int) -> tuple[float, float]:
        """A sampler that packs draws rows until they fill a bin: nobody knows how many."""
        packs: Any = self.args
        return (UNKNOWN_COUNT, UNKNOWN_COUNT) if packs.sample_packing else super()._samples_in_rows(n_rows)

    def _finished(self, result: StepResult) -> None:
        """axolotl's counts of tokens, which it takes in the `compute_loss` that is replaced: of all that was read."""
        super()._finished(result)
        host: Any = self
        if host.args.include_tkps:
            for micro in self.engine.given:
                host._accumulate_token_counts({"labels": micro.targets})


class SamplewisePlugin(BasePlugin):
    """Makes axolotl's supervised fine-tuning weigh samples.

    The section takes the fields of `samplewise.engine.options.WeightingOptions` that a file can hold.
    Errors: SamplewiseError on a section without the plugin and the reverse, on unknown keys, and on settings of axolotl
    that cannot be combined with weights: before any data is read.
    """

    def register(self, cfg: Any) -> None:
        """Check the whole configuration, as it was written."""
        listed = any(str(each).replace(":", ".") == NAME for each in cfg.get("plugins") or [])
        section = cfg.get("samplewise")
        if not listed and section is None:
            return  # installed, but not asked for
        if not listed:
            raise SamplewiseError(
                "plugins", expected=f"{NAME} beside a section samplewise", got=cfg.get("plugins"),
                remedy="Add it to the list, or remove the section to train without weights.",
            )  # fmt: skip
        if not isinstance(section, dict) or not section:
            raise SamplewiseError(
                "samplewise", expected=f"a section with a rule beside the plugin {NAME}", got=section,
                remedy="Add `samplewise: {rule: ir_dro(r=3.0)}`, or remove the plugin to train without weights.",
            )  # fmt: skip
        for key in section:
            if key not in OPTIONS:
                raise SamplewiseError(
                    f"samplewise.{key}", expected="an option of weighting", got="an unknown one",
                    remedy=nearest(key, OPTIONS),
                )  # fmt: skip
        WeightingOptions(**section)
        refuse_settings(cfg)

    def get_input_args(self) -> str:
        """Where axolotl finds the fields that its configuration gains."""
        return f"{__name__}.SamplewiseArgs"

    def get_trainer_cls(self, cfg: Any) -> type | None:
        """axolotl's trainer, weighted. Errors: SamplewiseError where another plugin brings a trainer of its own."""
        if not cfg.samplewise:
            return None
        from axolotl.core.trainers import AxolotlTrainer  # pyright: ignore[reportMissingImports]

        for name, plugin in PluginManager.get_instance().plugins.items():
            if plugin is not self and (other := plugin.get_trainer_cls(cfg)) is not None:
                raise _other_trainer(name, other)
        return type("WeightedAxolotlTrainer", (WeightedAxolotlMixin, AxolotlTrainer), {"__module__": __name__})

    def post_trainer_create(self, cfg: Any, trainer: Any) -> None:
        """Errors: SamplewiseError where axolotl made another trainer than the weighted one."""
        if cfg.samplewise and not isinstance(trainer, WeightedMixin):
            raise _other_trainer("plugins", type(trainer))


def _other_trainer(name: str, trainer: type) -> SamplewiseError:
    return SamplewiseError(
        name, expected="axolotl's own trainer, which is made a weighted one", got=f"the trainer {trainer.__name__}",
        remedy="Leave out the plugin or setting that brings it: its loss would not be weighted.",
    )  # fmt: skip
