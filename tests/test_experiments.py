"""A grid of trials gives the same table however it is run, and loses nothing to failures and kills."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from joblib._parallel_backends import ThreadingBackend

from course_utils.experiments import local_cluster, run_grid

GRID = {"depth": [1, 2], "width": [8]}


def draw(*, depth, width, seed):
    """Depend on the setting, and on the global generators."""
    numbers = torch.rand(width) + np.random.rand() + random.random()  # noqa: NPY002 (it is what is tested)
    # Those of OpenMP and, where PyTorch is built with it, of MKL.
    threads = re.findall(r"get_max_threads\(\) : (\d+)", torch.__config__.parallel_info())
    return {"total": depth * float(numbers.sum()), "threads": max(map(int, threads)), "given": seed}


def fail_at_two(*, depth, width, seed):
    if depth == 2:
        msg = "two is too deep"
        raise ArithmeticError(msg)
    return draw(depth=depth, width=width, seed=seed)


def run(trial=draw, grid=GRID, seeds=(0, 1), **kwargs):
    return run_grid(trial, grid, seeds=seeds, progress=False, **kwargs)


def without_time(table):
    return table.drop(columns="seconds")


@pytest.fixture
def counted():
    """A trial that notes its calls."""
    calls = []

    def trial(*, depth, width, seed):
        calls.append((depth, width, seed))
        return draw(depth=depth, width=width, seed=seed)

    return trial, calls


def test_one_row_a_trial_in_the_order_of_the_grid():
    table = run()
    assert list(table) == ["depth", "width", "seed", "total", "threads", "given", "seconds", "error"]
    assert table[["depth", "seed"]].to_numpy().tolist() == [[1, 0], [1, 1], [2, 0], [2, 1]]
    assert (table["given"] == table["seed"]).all()
    assert table["error"].isna().all()
    assert (table["seconds"] > 0).all()


def test_a_list_of_grids():
    table = run(lambda **given: {"n": len(given) - 1}, [{"a": [1]}, {"a": [2], "b": [3, 4]}], [0])
    assert table["n"].tolist() == [1, 2, 2]
    assert table["b"].isna().tolist() == [True, False, False]


def test_the_same_table_from_one_and_from_two_processes():
    alone = run()
    pd.testing.assert_frame_equal(without_time(run(n_jobs=2)), without_time(alone))
    assert alone["total"].nunique() == 4


def test_a_trial_has_one_thread_and_the_caller_keeps_its_own():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert (run()["threads"] == 1).all()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_two_processes_are_two():
    table = run(lambda *, depth, width, seed: {"pid": os.getpid()}, n_jobs=2)  # noqa: ARG005
    assert os.getpid() not in set(table["pid"])


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_failing_trial_is_reported_and_loses_no_other(n_jobs):
    with pytest.warns(
        RuntimeWarning,
        match=r"2 of 4 trials failed, the first with \{'depth': 2, 'width': 8\} and seed 0: "
        "ArithmeticError: two is too deep",
    ):
        table = run(fail_at_two, n_jobs=n_jobs)
    assert table["error"].isna().tolist() == [True, True, False, False]
    assert table["total"].isna().tolist() == [False, False, True, True]
    assert table["total"].iloc[:2].tolist() == run()["total"].iloc[:2].tolist()
    assert list(table)[-2:] == ["seconds", "error"]


def test_columns_keep_their_order_when_the_first_trial_fails():
    with pytest.warns(RuntimeWarning, match="1 of 2 trials failed"):
        table = run(fail_at_two, [{"depth": [2], "width": [8]}, {"depth": [1], "width": [8]}], [0])
    assert list(table) == ["depth", "width", "seed", "total", "threads", "given", "seconds", "error"]


@pytest.mark.parametrize("name", ["depth", "seed", "seconds", "error"])
def test_a_trial_must_not_return_what_is_a_column_already(name):
    with pytest.warns(RuntimeWarning, match=rf"returned \['{name}'\], which are columns already"):
        run(lambda *, depth, width, seed: {name: 0})  # noqa: ARG005


def test_resumed_trials_are_not_run_again(tmp_path, counted):
    trial, calls = counted
    file = tmp_path / "trials.jsonl"
    run(trial, {"depth": [1], "width": [8]}, resume=file)
    assert calls == [(1, 8, 0), (1, 8, 1)]
    table = run(trial, resume=str(file))
    assert calls[2:] == [(2, 8, 0), (2, 8, 1)]
    pd.testing.assert_frame_equal(without_time(table), without_time(run()))
    again = run(trial, resume=file)
    assert len(calls) == 4
    pd.testing.assert_frame_equal(again, table)


@pytest.mark.parametrize("cut", [1, 25, 100])
def test_a_file_cut_in_the_middle_of_a_line_is_mended(tmp_path, counted, cut):
    trial, calls = counted
    file = tmp_path / "trials.jsonl"
    table = run(trial, resume=file)
    file.write_bytes(file.read_bytes()[:-cut])
    resumed = run(trial, resume=file)
    assert calls[4:] == [(2, 8, 1)]
    pd.testing.assert_frame_equal(without_time(resumed), without_time(table))
    lines = file.read_text().splitlines()
    assert len(lines) == 5
    assert all(json.loads(line) for line in lines)


def test_a_file_cut_in_its_first_line_is_begun_anew(tmp_path, counted):
    trial, calls = counted
    file = tmp_path / "trials.jsonl"
    run(trial, resume=file)
    file.write_bytes(file.read_bytes()[:10])
    run(trial, resume=file)
    assert len(calls) == 8


def test_failed_trials_are_tried_again(tmp_path):
    file = tmp_path / "trials.jsonl"
    with pytest.warns(RuntimeWarning, match="2 of 4 trials failed"):
        run(fail_at_two, resume=file)
    table = run(resume=file)
    assert table["error"].isna().all()
    pd.testing.assert_frame_equal(without_time(table), without_time(run()))


def test_finished_trials_are_kept_when_the_run_is_interrupted(tmp_path):
    file = tmp_path / "trials.jsonl"

    def interrupted(*, depth, width, seed):
        if depth == 2:
            raise KeyboardInterrupt
        return draw(depth=depth, width=width, seed=seed)

    with pytest.raises(KeyboardInterrupt):
        run(interrupted, resume=file)
    assert len(file.read_text().splitlines()) == 3


def test_results_of_numpy_and_torch_come_back_from_a_file_as_numbers(tmp_path):
    def trial(*, scale, seed):  # noqa: ARG001
        return {"a": np.float32(scale), "b": torch.tensor(2), "c": np.arange(2), "d": float("nan")}

    tables = [run(trial, {"scale": np.array([0.1, 0.2])}, resume=tmp_path / "trials") for _ in range(2)]
    pd.testing.assert_frame_equal(*tables)
    assert tables[1]["b"].tolist() == [2] * 4
    assert tables[1]["c"].tolist() == [[0, 1]] * 4
    assert tables[1]["d"].isna().all()


def test_what_cannot_be_kept_in_a_file(tmp_path):
    with pytest.raises(TypeError, match=r"cannot be kept in a file of trials\. Name it by a text"):
        run(lambda **_: {}, {"layer": [torch.nn.Linear]}, resume=tmp_path / "a")
    with pytest.warns(RuntimeWarning, match="1 of 1 trials failed.*cannot be kept in a file of trials"):
        run(lambda **_: {"model": torch.nn.Linear}, {"a": [1]}, [0], resume=tmp_path / "b")


def test_another_file_is_left_alone(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("Do not lose this")
    with pytest.raises(ValueError, match=r"notes.txt is not a file of trials"):
        run(resume=file)
    assert file.read_text() == "Do not lose this"


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"setting": {}, "seed": 0, "row": 1}'])
def test_a_broken_line_is_named(tmp_path, line):
    file = tmp_path / "trials"
    run(resume=file)
    lines = file.read_text().splitlines()
    lines[2] = line
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"Line 3 of .*trials is not a trial. Remove that line"):
        run(resume=file)


@pytest.mark.parametrize(("grid", "seeds"), [([], [0]), (GRID, [])])
def test_nothing_to_try(grid, seeds):
    with pytest.raises(ValueError, match="nothing to try: give at least one setting and one seed"):
        run(grid=grid, seeds=seeds)


def test_a_name_of_the_grid_that_is_taken():
    with pytest.raises(ValueError, match=r"The grid uses \['seed'\]"):
        run(grid={"seed": [1]})


def test_values_that_are_not_a_list():
    with pytest.raises(TypeError, match=r"depth.*needs to be a list"):
        run(grid={"depth": 3, "width": [8]})


def test_the_backend_of_the_caller_is_used():
    batches = []

    class Noting(ThreadingBackend):
        def submit(self, func, callback=None):
            batches.append(len(func))
            return super().submit(func, callback)

    joblib.register_parallel_backend("noting", Noting)
    with joblib.parallel_config("noting", n_jobs=2):
        table = run(lambda *, depth, width, seed: {"sum": depth + width + seed}, n_jobs=None)
    assert batches == [1, 1, 1, 1]
    assert table["sum"].tolist() == [9, 10, 10, 11]


def draw_slowly(*, depth, width, seed, folder):
    """Leave word that the trial began, and take long enough to be killed.

    Python's `random` is left alone: Dask draws from it, too, and sooner or later in between.
    """
    (folder / f"{depth}-{seed}-{time.monotonic_ns()}").write_text(str(os.getpid()))
    before = torch.rand(width).sum()
    time.sleep(0.4)
    return {"total": depth * float(before + torch.rand(1) + np.random.rand())}  # noqa: NPY002 (it is what is tested)


def kill_first_to_begin(folder):
    while not (begun := list(folder.iterdir())):
        time.sleep(0.02)
    time.sleep(0.1)
    os.kill(int(begun[0].read_text()), signal.SIGKILL)


def test_a_cluster_gives_the_same_table_even_if_a_worker_is_killed(tmp_path):
    folders = [tmp_path / name for name in ("alone", "cluster", "killed")]
    for folder in folders:
        folder.mkdir()
    alone, *trials = (partial(draw_slowly, folder=folder) for folder in folders)
    expected = without_time(run(alone))
    with local_cluster(n_workers=2) as client:
        assert client.scheduler.address.startswith("tcp://127.0.0.1:")
        pids = client.run(os.getpid)
        assert os.getpid() not in pids.values()
        pd.testing.assert_frame_equal(without_time(run(trials[0], n_jobs=None)), expected)

        killer = threading.Thread(target=kill_first_to_begin, args=[folders[2]])
        killer.start()
        table = run(trials[1], n_jobs=None)
        killer.join()
    pd.testing.assert_frame_equal(without_time(table), expected)
    runs = [len(list(folder.iterdir())) for folder in folders]
    assert runs[:2] == [4, 4]
    assert runs[2] > 4  # a trial began, was killed, and began again


def test_a_cluster_resumes_from_a_file_and_leaves_no_variables_behind(tmp_path):
    environment = dict(os.environ)
    file = tmp_path / "trials"
    trial = lambda *, depth, width, seed: {"sum": depth + width + seed}  # noqa: E731 (pickled by value)
    run(trial, {"depth": [1], "width": [8]}, resume=file)
    with local_cluster(n_workers=1):
        table = run(trial, n_jobs=None, resume=file)
    assert table["sum"].tolist() == [9, 10, 10, 11]
    assert len(file.read_text().splitlines()) == 5
    # Dask's variables would slow down whatever is started later: kernels, for one.
    assert dict(os.environ) == environment


def test_a_worker_whose_trials_would_share_generators_is_refused():
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address=None,
        ) as cluster,
        Client(cluster),
        joblib.parallel_config("dask"),
        pytest.raises(RuntimeError, match=r"runs 2 trials at a time in one process.*threads_per_worker=1"),
    ):
        run(n_jobs=None)


def test_without_dask_the_error_names_the_mend(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ImportError, match=r"pip install '\.\[scale\]' in the folder of the course"),
        local_cluster(n_workers=1),
    ):
        pass


def test_a_worker_imports_only_what_a_trial_needs():
    heavy = ["pandas", "sklearn", "matplotlib", "torch_geometric", "distributed"]
    code = f"import sys, course_utils.experiments; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_settings_are_those_of_scikit_learn():
    from sklearn.model_selection import ParameterGrid

    grid = [{"b": [1, 2], "a": ("x", "y")}, {"c": np.arange(3)}, {}]
    table = run(lambda **_: {}, grid, [0])
    expected = pd.DataFrame(list(ParameterGrid(grid)))
    pd.testing.assert_frame_equal(table[list(expected)], expected)


def test_a_text_is_not_a_list_of_values():
    with pytest.raises(
        TypeError, match=r"depth='deep' needs to be a list of values to try, such as depth=\['deep'\]"
    ):
        run(grid={"depth": "deep"})
