"""Executing notebooks: outcome, memory, where it failed; and the command that does it."""

import joblib
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from course_utils import _cli_run, _execute
from course_utils.__main__ import main


def notebook(*sources):
    return new_notebook(cells=[new_markdown_cell("# Title"), *(new_code_cell(source) for source in sources)])


def test_outputs_time_and_memory_of_a_good_notebook(tmp_path):
    nb = notebook(
        "import os; print(os.getcwd())", "block = bytearray(200 * 2**20); block[::4096] = bytes(51200)"
    )
    done = _execute.execute(nb, tmp_path)
    assert done.failure == ""
    assert nb.cells[1].outputs[0].text.strip() == str(tmp_path)
    assert 0 < done.seconds < 60
    assert 0 < done.cpu_seconds < 60
    assert 200 * 2**20 < done.peak_bytes < 600 * 2**20


def test_progress_bars_do_not_stay_behind(tmp_path):
    nb = notebook(
        "from tqdm.auto import trange\nfor i in trange(3): print(i)",
        "import ipywidgets; ipywidgets.IntSlider()",
    )
    assert _execute.execute(nb, tmp_path).failure == ""
    assert [output.output_type for output in nb.cells[1].outputs] == ["stream"]
    assert _execute.VIEW in nb.cells[2].outputs[0].data


def test_a_failure_names_the_cell_and_its_first_line(tmp_path):
    nb = notebook("x = 1", "# divide\ny = x / 0", "z = 3")
    done = _execute.execute(nb, tmp_path)
    assert done.failure == "cell 3 ('# divide'): ZeroDivisionError: division by zero"
    assert nb.cells[3].execution_count is None


def test_a_dead_kernel_is_a_failure_not_a_crash(tmp_path):
    done = _execute.execute(notebook("import os; os._exit(1)"), tmp_path)
    assert done.failure.startswith("cell 2 ('import os; os._exit(1)'): the kernel died")


def test_a_hanging_cell_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(_execute, "CELL_TIMEOUT", 2)
    done = _execute.execute(notebook("import time; time.sleep(60)"), tmp_path)
    assert done.failure == "cell 2 ('import time; time.sleep(60)'): took longer than 2 s"


@pytest.fixture
def course(tmp_path, monkeypatch):
    """Two notebooks in a folder of their own, as the working directory."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    nbformat.write(notebook("print('one')"), folder / "00_one.ipynb")
    nbformat.write(notebook("print('two')", "raise ValueError('broken')"), folder / "01_two.ipynb")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_run_goes_on_after_a_failure_and_names_it(course, capsys, jobs):
    source = (course / "notebooks/01_two.ipynb").read_bytes()
    assert main(["run", "--jobs", jobs]) == 1
    captured = capsys.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines() if line.endswith(("ok", "FAILED"))] == [
        "00_one",
        "01_two",
    ]
    assert "FAILED: notebooks/01_two.ipynb, cell 3" in captured.err
    assert "ValueError: broken" in captured.err
    assert "broken" in (course / "build/01_two.html").read_text()
    assert (course / "notebooks/01_two.ipynb").read_bytes() == source
    assert [path.name for path in (course / "build/executed").iterdir()] == ["00_one.ipynb"]


@pytest.mark.parametrize("name", ["00", "00_one", "notebooks/00_one.ipynb"])
def test_run_one_by_number_name_or_path(course, capsys, name):
    assert main(["run", name]) == 0
    out = capsys.readouterr().out
    assert "01_two" not in out
    assert (course / "build/00_one.html").as_uri() in out


def test_notebooks_side_by_side_share_the_cores(course, capsys, monkeypatch):
    monkeypatch.setattr(_cli_run._machine, "available_cores", lambda: 2)
    show = "import os; print(os.environ['OMP_NUM_THREADS'])"  # which the notebooks' first line goes by
    for name in ("00_one", "01_two"):
        nbformat.write(notebook(show), course / f"notebooks/{name}.ipynb")
    assert main(["run"]) == 0
    assert "2 notebooks at a time" in capsys.readouterr().out
    for name in ("00_one", "01_two"):
        done = nbformat.read(course / f"build/executed/{name}.ipynb", as_version=4)
        assert done.cells[1].outputs[0].text.strip() == str(max(1, joblib.cpu_count() // 2))


def test_little_memory_means_one_notebook_at_a_time(monkeypatch):
    monkeypatch.setattr(_cli_run._machine, "available_cores", lambda: 8)
    monkeypatch.setattr(_cli_run._machine, "memory_limit", lambda: 2 * 2**30)
    assert _cli_run._possible_jobs() == 1


@pytest.mark.usefixtures("course")
def test_no_notebook_at_a_time_is_an_error(capsys):
    assert main(["run", "--jobs", "0"]) == 2
    assert "at least one" in capsys.readouterr().err


def test_an_unknown_notebook_is_an_error_that_lists_the_known(course, capsys):
    assert main(["run", "99"]) == 2
    assert "No notebook '99'. There are: 00_one, 01_two." in capsys.readouterr().err
    assert not (course / "build").exists()


def test_elsewhere_the_checkout_s_notebooks_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = _cli_run._find(["00"])
    assert [path.name for path in found] == ["00_start_here.ipynb"]
