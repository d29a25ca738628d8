"""The package itself: quick to import, its public names there when asked for."""

import os
import subprocess
import sys

import pytest

import course_utils
from course_utils import runtime


def loads_torch(code):
    """Run code in a fresh interpreter and tell whether PyTorch has been imported by its end."""
    report = "\nimport sys; print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return {"True": True, "False": False}[done.stderr.splitlines()[-1]]


def test_importing_the_package_does_not_import_torch():
    assert not loads_torch("import course_utils")


def test_the_command_that_looks_for_data_does_not_import_torch():
    assert not loads_torch("from course_utils.__main__ import main; main(['data', 'status'])")


def test_a_notebooks_first_line_imports_it():
    assert loads_torch("from course_utils import setup_notebook")


@pytest.mark.parametrize("name", course_utils.__all__)
def test_public_names_are_those_of_runtime(name):
    assert getattr(course_utils, name) is getattr(runtime, name)


def test_a_name_that_is_not_there_is_an_ordinary_error():
    with pytest.raises(AttributeError, match="module 'course_utils' has no attribute 'setup_notebok'"):
        _ = course_utils.setup_notebok
    with pytest.raises(ImportError, match="cannot import name 'setup_notebok'"):
        exec("from course_utils import setup_notebok")


def test_threads_that_wait_soon_sleep():
    """Without this a training is many times slower where others share the cores; set before PyTorch is loaded."""
    code = "import course_utils, os; print(os.environ['GOMP_SPINCOUNT'])"
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1000"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"GOMP_SPINCOUNT": "5"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "5"  # a user's own choice stays
