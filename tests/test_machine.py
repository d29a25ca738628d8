import os

import psutil
import pytest

from course_utils import _machine


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),  # half a core is still one thread
        ({"cpu.max": "1600000 100000"}, 8),  # a quota above what is visible grants nothing more
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_cores_are_those_granted(tmp_path, files, cores):
    for name, text in files.items():
        write(tmp_path / name, text + "\n")
    assert _machine.available_cores(tmp_path) == cores


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(("threads", "cores"), [("2", 2), ("64", 8), ("0", 1), ("", 8), ("4,2", 8)])
def test_who_starts_several_processes_can_grant_fewer(tmp_path, monkeypatch, threads, cores):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert _machine.available_cores(tmp_path) == cores


@pytest.mark.usefixtures("eight_cores")
def test_the_quota_of_a_group_above_counts_too(tmp_path, monkeypatch):
    monkeypatch.setattr(
        _machine, "_own_groups", lambda *_: [tmp_path, tmp_path / "hub", tmp_path / "hub/pod"]
    )
    write(tmp_path / "hub/cpu.max", "200000 100000")
    write(tmp_path / "hub/pod/cpu.max", "max 100000")
    assert _machine.available_cores(tmp_path) == 2


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_memory_is_the_limit_where_there_is_one(tmp_path, name):
    write(tmp_path / name, f"{2**30}\n")
    assert _machine.memory_limit(tmp_path) == 2**30


@pytest.mark.parametrize(
    ("name", "text"), [("memory.max", "max"), ("memory/memory.limit_in_bytes", str(2**63 - 4096))]
)
def test_no_limit_means_the_machine(tmp_path, name, text):
    write(tmp_path / name, text)
    assert _machine.memory_limit(tmp_path) == psutil.virtual_memory().total
