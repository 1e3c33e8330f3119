"""One set of weighting options: what trainers, run files, plans and arms take has one name, default, meaning, check."""

from dataclasses import MISSING, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_type_hints

import plans
import pytest

from samplewise import SamplewiseError, parse_rule
from samplewise.config import DataConfig, RunConfig, load_config
from samplewise.config.settings_file import to_yaml
from samplewise.engine.options import WeightingOptions
from samplewise.engine.weighting import RuleOptions, StepOptions, Weighting, weighting_values
from samplewise.evidence.plan import ArmConfig, PlanConfig, weighting_of
from samplewise.evidence.plan_file import load_plan
from samplewise.evidence.run.execute import make_trainer
from samplewise.evidence.run.prepared import Prepared

OTHER = {
    "rule": "band(drop_top=0.25)", "token_rule": "rho1(keep=0.5)", "reference_model": "r", "loss_from": "stored",
    "per": "token", "normalize": "micro", "pool": 3, "max_nonfinite": 0.5, "logits": "allow", "log_samples": "rows",
    "allow_negative": True, "norm": "nonzero_tokens", "backend": "torch",
}  # fmt: skip
"""A value for every option that is not its default."""


def names(kind: type) -> set[str]:
    return {each.name for each in fields(kind)}


def test_another_value_of_every_option_is_here():
    assert OTHER.keys() == names(Weighting)
    assert not [each.name for each in fields(Weighting) if each.default == OTHER[each.name]]


def test_no_option_is_stated_twice():
    """Who takes the options inherits them; what is said again is another default or a wider type, named here."""
    again = {kind: set(kind.__annotations__) & names(Weighting) for kind in (RunConfig, PlanConfig)}
    assert again == {RunConfig: set(), PlanConfig: set()}
    assert set(ArmConfig.__annotations__) & names(RuleOptions) == {"rule"}, "with a default"
    own, shared = {each.name: each.default for each in fields(WeightingOptions)}, fields(Weighting)
    assert {each.name: own[each.name] for each in shared if each.default is not MISSING} == {
        each.name: each.default for each in shared if each.default is not MISSING
    }


def test_an_arm_overrides_what_the_plan_says_or_leaves_it():
    arm, plan = get_type_hints(ArmConfig), get_type_hints(PlanConfig)
    overrides = names(ArmConfig) & names(StepOptions)
    assert overrides == {"per", "normalize", "pool"}
    for name in overrides:
        assert arm[name] == plan[name] | None
        assert getattr(ArmConfig(), name) is None


@pytest.mark.parametrize("name", sorted(names(StepOptions)))
def test_arms_without_an_option_have_the_plans(tmp_path, name):
    plan = replace(load_plan(plans.write_plan(tmp_path)), **{name: OTHER[name]})
    assert getattr(weighting_of(plan, ArmConfig()), name) == OTHER[name]
    if name in names(ArmConfig):
        usual = getattr(StepOptions(), name)
        assert getattr(weighting_of(plan, ArmConfig(**{name: usual})), name) == usual, "its own, a default too"


@pytest.mark.parametrize("name", sorted(names(RuleOptions)))
def test_what_an_arm_says_of_its_rule_counts(tmp_path, name):
    plan = load_plan(plans.write_plan(tmp_path))
    assert getattr(weighting_of(plan, ArmConfig(**{name: OTHER[name]})), name) == OTHER[name]


class Recorded(SimpleNamespace):
    """A trainer that is never trained: what it was given."""

    def remove_callback(self, callback: object) -> None: ...

    def add_callback(self, callback: object) -> None: ...


@pytest.mark.parametrize("name", sorted(names(Weighting)))
def test_every_option_of_a_run_file_reaches_the_trainer(tmp_path, name):
    config = RunConfig(model="m", data=DataConfig("docs"), output="o", **{"rule": "uniform()", name: OTHER[name]})
    tokenizer = SimpleNamespace(pad_token_id=0)
    trainer: object = make_trainer(None, tokenizer, Prepared(None, [], [], {}), config, tmp_path, Recorded)  # pyright: ignore
    assert getattr(trainer, name) == OTHER[name]


def test_options_of_a_file_are_those_of_a_script():
    plain = {
        name: value for name, value in OTHER.items() if name not in ("normalize", "pool", "loss_from", "allow_negative")
    }
    options = WeightingOptions(**weighting_values(Weighting(**plain)))
    assert options.rule == parse_rule(str(OTHER["rule"]))
    assert options.token_rule.expression.startswith("rho1(")
    assert {name: getattr(options, name) for name in plain if not name.endswith("rule")} == {
        name: value for name, value in plain.items() if not name.endswith("rule")
    }


REFUSED = [
    ({"pool": 0}, "pool: expected a whole number of 1 or more"),
    ({"pool": 2, "normalize": "micro"}, "pool: expected .*normalize='step'"),
    ({"max_nonfinite": 1.5}, "max_nonfinite: expected a share"),
    ({"normalize": "micro", "token_rule": "random_tokens()"}, "normalize: expected 'step' with a token rule"),
    ({"normalize": "micro", "loss_from": "stored"}, "loss_from: expected 'fresh'"),
    ({"allow_negative": True}, "allow_negative: expected column_weights"),
    ({"norm": "nonzero_tokens"}, "norm: expected 'weights' with per='sample'"),
    ({"loss_from": "stored", "rule": "random_keep(share=0.5)"}, "loss_from: expected 'fresh'"),
]
RULE = "band(drop_top=0.25)"


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_a_run_file_is_refused_where_a_script_is(tmp_path, given, message):
    path = tmp_path / "run.yaml"
    path.write_text("model: m\ndata: {path: docs}\noutput: runs/a\n")
    with pytest.raises(SamplewiseError, match=f"^{message}"):
        load_config(path, [f"{name}={value}" for name, value in ({"rule": RULE} | given).items()])


@pytest.mark.parametrize(("given", "message"), REFUSED)
@pytest.mark.parametrize("where", ["arm", "plan"])
def test_so_is_an_arm_whoever_says_it(tmp_path, given, message, where):
    """An arm under a plan that says normalize: micro is one that says it itself."""
    own = {name: value for name, value in given.items() if where == "arm" or name not in names(StepOptions)}
    own = {name: value for name, value in own.items() if name in names(ArmConfig)}
    left = [f"{name}={value}" for name, value in given.items() if name not in own]
    keys = "".join(f", {name}: {value!r}" for name, value in own.items() if name != "rule")
    with pytest.raises(SamplewiseError, match=message):
        load_plan(plans.write_plan(tmp_path), [*left, f"arms.x={{rule: '{own.get('rule', RULE)}'{keys}}}"])


def test_a_written_run_file_begins_with_the_model_and_says_everything(tmp_path):
    config = RunConfig(model="m", data=DataConfig("docs"), output="o", rule=RULE)
    path = Path(tmp_path / "run.yaml")
    path.write_text(to_yaml(config))
    keys = [line.partition(":")[0] for line in path.read_text().splitlines() if line[0] not in " -"]
    assert keys[:3] == ["model", "data", "output"]
    assert set(keys) == names(RunConfig)
    assert load_config(path) == config
