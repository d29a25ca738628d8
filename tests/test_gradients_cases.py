"""The doctor is held to broken models and to healthy ones that look ill; the docs print the same counts."""

from pathlib import Path

import pytest
from gradient_cases import BROKEN, HEALTHY
from gradient_cases.report import examine, is_right_place, write_table


def test_the_set_is_large_enough():
    assert len(BROKEN) >= 40
    assert len(HEALTHY) >= 20


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name):
    _, kinds, places = BROKEN[name]
    primary = examine(name).primary
    assert primary is not None, "nothing was found"
    assert primary.kind in kinds
    assert is_right_place(primary.where, places), primary.where


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy(name):
    diagnosis = examine(name)
    assert diagnosis.ok, diagnosis


def test_the_docs_print_these_counts():
    page = Path(__file__).parents[1] / "docs" / "gradient-doctor.md"
    assert write_table() in page.read_text(encoding="utf-8")
