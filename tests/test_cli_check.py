"""``python -m course_utils check``: each problem has a mend and counts."""

import os
import subprocess
import sys
from importlib import metadata

import pytest

from course_utils import _cli_check, _download, _machine, _store
from course_utils.__main__ import main


@pytest.fixture(autouse=True)
def _quick_probe(monkeypatch):
    monkeypatch.setattr(_download, "_answered", {})


def problems():
    return [answer for answer in _cli_check.answers() if answer.mend]


def test_this_machine_is_ready(capsys):
    assert main(["check"]) == 0
    out = capsys.readouterr().out
    for topic in ("python", "versions", "cores", "memory", "device", "cache", "data", "network"):
        assert f"ok      {topic}" in out
    assert "This machine is ready." in out


def test_no_network_is_not_a_problem():
    assert "none" in next(answer for answer in _cli_check.answers() if answer.topic == "network").found
    assert not problems()


def test_a_wrong_version_is_a_problem_with_the_pin_in_its_mend(monkeypatch, capsys):
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "1.0" if name == "numpy" else real(name))
    assert main(["check"]) == 1
    out = capsys.readouterr().out
    assert "numpy 1.0 (pinned ==" in out
    assert "Mend: python -m pip install 'numpy==" in out
    assert "1 problem." in out


def test_a_missing_package_is_a_problem(monkeypatch):
    real = metadata.version

    def version(name):
        if name == "osmnx":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    (problem,) = problems()
    assert "osmnx missing" in problem.found


def test_a_quota_below_the_visible_cores_is_told(monkeypatch):
    monkeypatch.setattr(_machine, "available_cores", lambda: 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    cores = next(answer for answer in _cli_check.answers() if answer.topic == "cores")
    assert "1 (a quota; 64 are visible" in cores.found


def test_too_little_memory_is_a_problem(monkeypatch):
    monkeypatch.setattr(_machine, "memory_limit", lambda: 2**29)
    (problem,) = problems()
    assert problem.topic == "memory"
    assert "0.5 GB" in problem.found


def test_a_cache_that_cannot_be_written_is_a_problem(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COURSE_CACHE_DIR", str(tmp_path / "file" / "cache"))
    (problem,) = problems()
    assert "COURSE_CACHE_DIR" in problem.mend


def test_a_shared_folder_that_is_not_there_is_a_problem(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "nowhere"))
    (problem,) = problems()
    assert "nowhere" in problem.found
    assert "no folder" in problem.found


def test_a_file_with_a_wrong_hash_is_a_problem(monkeypatch, tmp_path):
    path = tmp_path / "cora" / "ind.cora.x"
    path.parent.mkdir()
    path.write_text("changed")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    (problem,) = problems()
    assert str(path) in problem.found
    assert "wrong hash" in problem.found


def test_real_data_are_named_with_their_folder(monkeypatch):
    if _store.shared_folder() is None:
        found = [answer.found for answer in _cli_check.answers() if answer.topic == "data"]
        assert all("stand-in until fetched" in text for text in found)
    else:
        found = [answer.found for answer in _cli_check.answers() if answer.topic == "data"]
        assert f"cambridge: real, {_store.shared_folder()}, hashes ok" in found
    monkeypatch.delenv("COURSE_DATA_DIR", raising=False)
    found = [answer.found for answer in _cli_check.answers() if answer.topic == "data"]
    assert all("stand-in until fetched" in text for text in found)


def test_the_command_line_itself():
    done = subprocess.run(
        [sys.executable, "-m", "course_utils", "--help"], capture_output=True, text=True, check=True
    )
    assert {"check", "data", "run"} <= set(done.stdout.split())
    wrong = subprocess.run(
        [sys.executable, "-m", "course_utils", "tidy"], capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2
    assert "invalid choice: 'tidy'" in wrong.stderr
