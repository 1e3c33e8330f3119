"""Rules of other packages: registered, or found by entry point; known to text, to trainers, and across processes."""

import importlib
import pickle
import sys
import tomllib
from pathlib import Path

import pytest

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.rules import RULES, known_rules

EXAMPLE = Path(__file__).parents[2] / "examples" / "rule_package"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The example package as pip would leave it: its module, and its entry points."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (tmp_path / "steep_rules.py").write_text((EXAMPLE / "steep_rules.py").read_text(encoding="utf-8"))
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items())
             for group, names in project["entry-points"].items()]  # fmt: skip
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("steep_rules", None)


def test_a_rule_of_an_installed_package_is_known(installed):
    rule = sw.parse_rule("chain(band(drop_top=0.25), steep(power=2))")
    assert "steep" in known_rules()
    assert "steep" not in RULES
    assert sw.weights(rule, [1.0, 2.0, 3.0, 9.0]).tolist() == pytest.approx([4 / 14, 16 / 14, 36 / 14, 0.0])
    assert sw.parse_rule("steep(power=linear(1.0, 2.0, 10))").remembers, "its numbers may be schedules"


def test_its_rule_is_a_value(installed):
    rule = sw.parse_rule("steep(power=2)")
    assert pickle.loads(pickle.dumps(rule)) == rule  # noqa: S301 - our own
    assert rule == sw.parse_rule(repr(rule))
    assert hash(rule) == hash(sw.parse_rule("steep(power=2)"))
    assert rule != sw.parse_rule("steep(power=3)")


def test_it_trains(installed, tmp_path):
    import tiny

    from samplewise.trainers import WeightedTrainer

    trainer = WeightedTrainer(
        tiny.model(), tiny.arguments(tmp_path), train_dataset=tiny.Rows(16), data_collator=tiny.collate,
        rule="steep(power=2)",
    )  # fmt: skip
    trainer.train()
    assert trainer.state.log_history[0]["samplewise/ess"] < 1


def test_without_the_package_it_is_unknown():
    with pytest.raises(SamplewiseError, match="steep"):
        sw.parse_rule("steep(power=2)")


def halved() -> sw.Rule:
    return sw.make_rule("halved()", lambda weights, samples, state: weights / (1 + samples.loss))


def test_a_registered_rule_is_known_until_it_is_forgotten():
    try:
        assert sw.register(halved) is halved
        assert sw.register(halved) is halved, "once more is no harm"
        assert sw.weights(sw.parse_rule("halved()"), [0.0, 1.0]).tolist() == pytest.approx([4 / 3, 2 / 3])
    finally:
        sw.unregister("halved")
    with pytest.raises(SamplewiseError):
        sw.parse_rule("halved()")


def test_a_name_is_taken_once():
    def ir_dro() -> sw.Rule:
        return halved()

    with pytest.raises(SamplewiseError, match=r"^maker: expected a name that no other rule has, got ir_dro"):
        sw.register(ir_dro)
    for wrong in (lambda: halved(), 3):
        with pytest.raises(SamplewiseError, match=r"^maker: expected a function with a name"):
            sw.register(wrong)  # pyright: ignore[reportArgumentType]
