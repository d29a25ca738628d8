"""The versions in pyproject.toml, requirements.lock, environment.yml and the installed package agree."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = {Requirement(line).name: Requirement(line) for line in PROJECT["dependencies"]}
EXTRAS = {
    Requirement(line).name: Requirement(line)
    for extra, lines in PROJECT["optional-dependencies"].items()
    if extra != "bench"  # not installed by `make setup`
    for line in lines
    if not line.startswith(PROJECT["name"])  # dev takes in the other extras
}
LOCK = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().split() if line)
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_pinned_to_one_version():
    for requirement in (DIRECT | EXTRAS).values():
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement


def test_lock_has_each_direct_dependency_at_its_pin():
    lock = {normalised(name): version for name, version in LOCK.items()}
    for name, requirement in (DIRECT | EXTRAS).items():
        assert str(requirement.specifier) == f"=={lock[normalised(name)]}"


def test_environment_yml_names_the_same_versions():
    *pip_lines, last = ENVIRONMENT["dependencies"][-1]["pip"]
    assert last == "-e ."
    scale = [Requirement(line) for line in PROJECT["optional-dependencies"]["scale"]]  # notebook 12 needs it
    wanted = DIRECT | {requirement.name: requirement for requirement in scale}
    assert {line.split("==")[0]: line for line in pip_lines} == {name: str(r) for name, r in wanted.items()}


def test_environment_yml_pins_a_supported_python():
    python = next(line for line in ENVIRONMENT["dependencies"] if str(line).startswith("python="))
    minimum = PROJECT["requires-python"].removeprefix(">=")
    assert python == f"python={minimum}"


@pytest.mark.parametrize("name", sorted(DIRECT))
def test_what_is_installed_is_what_is_pinned(name):
    assert DIRECT[name].specifier.contains(metadata.version(name), prereleases=True)


def test_no_file_names_an_index():
    for path in ("pyproject.toml", "requirements.lock", "environment.yml", "Makefile", ".ci/run"):
        text = (ROOT / path).read_text()
        assert "index-url" not in text
        assert "find-links" not in text
