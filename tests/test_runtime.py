import random

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from course_utils import _machine, runtime


@pytest.fixture(autouse=True)
def _restore():
    threads = torch.get_num_threads()
    with plt.rc_context():
        yield
    torch.set_num_threads(threads)


def draw():
    return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002 (what is tested)


def test_the_same_seed_gives_the_same_numbers_everywhere():
    runtime.seed_everything(7)
    first = draw()
    runtime.seed_everything(7)
    assert draw() == first
    runtime.seed_everything(8)
    assert all(a != b for a, b in zip(first, draw(), strict=True))


def test_setup_seeds_caps_threads_and_prints_one_line(capsys, monkeypatch):
    monkeypatch.setattr(_machine, "available_cores", lambda: 1)
    runtime.setup_notebook(3)
    assert torch.get_num_threads() == 1
    assert torch.initial_seed() == 3
    out = capsys.readouterr().out
    assert out.startswith("Ready: 1 core, ")
    assert out.count("\n") == 1
    assert "cambridge" in out
    assert "cora" in out


def test_setup_makes_colours_that_a_dichromat_can_tell_apart():
    runtime.setup_notebook()
    assert plt.rcParams["axes.prop_cycle"] == plt.style.library["petroff10"]["axes.prop_cycle"]


def test_preset_is_quick_unless_told(monkeypatch):
    monkeypatch.delenv("COURSE_PRESET", raising=False)
    assert runtime.preset() == "quick"
    monkeypatch.setenv("COURSE_PRESET", "full")
    assert runtime.preset() == "full"


def test_an_unknown_preset_is_an_error_that_names_the_presets(monkeypatch):
    monkeypatch.setenv("COURSE_PRESET", "fast")
    with pytest.raises(ValueError, match=r"COURSE_PRESET is 'fast'. It can be 'quick' .* or 'full'"):
        runtime.preset()
