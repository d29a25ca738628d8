"""The wheel works without the repository: registry and stand-ins travel with it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

USE = """
import warnings
from course_utils import _store, exercises
from course_utils.datasets import load_cambridge, load_cora

warnings.simplefilter("ignore")
assert _store.data_folder().name == "_data", _store.data_folder()
assert len(_store.registry()) >= 3
assert len(load_cambridge(source="standin").neighbourhoods) == 13
assert load_cora().num_nodes == 2708
assert "04_node2vec_cambridge" in exercises.notebooks()
"""


def test_the_wheel_brings_its_data(tmp_path):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    install = [*pip, "install", "--no-deps", "--no-index", "--target", str(tmp_path / "site"), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    environment = {name: value for name, value in os.environ.items() if name != "COURSE_DATA_DIR"}
    environment |= {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
