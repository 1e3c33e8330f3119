"""The files of the hosting site: they fit its schemas, and name commands and files that are there."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

import samplewise

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_the_workflows_fit_the_schema():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(WORKFLOWS) == 3


def steps():
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
            yield from (step["run"] for step in job["steps"] if "run" in step)


def test_the_workflows_run_targets_and_files_that_are_there():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for run in steps():
        for command in re.findall(r"make ([\w -]+)", run):
            assert set(command.split()) <= targets, command
        for name in re.findall(r"\btests/[\w./]+", run):
            assert (ROOT / name).exists(), name


def test_the_workflows_say_that_they_have_not_run():
    assert all("not run yet" in path.read_text(encoding="utf-8").splitlines()[0] for path in WORKFLOWS)


def test_the_version_is_the_same_everywhere():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert declared == samplewise.__version__ == cited["version"]
    assert f"## {declared} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
