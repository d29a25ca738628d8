"""A grid of trials over seeds, one core to a trial, that survives a failing trial and a killed process."""

from __future__ import annotations

import itertools
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import torch
from threadpoolctl import threadpool_limits

from course_utils._environment import keep_environment
from course_utils.runtime import seed_everything

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import pandas as pd
    from distributed import Client

    Grid = Mapping[str, Sequence[Any]]

# Each worker imports this module. It must not bring along what only the caller needs (pandas, progress bars).
__all__ = ["local_cluster", "run_grid"]

# First line of a file of trials. A file that begins otherwise is never written to.
HEADER = '{"trials of": "course_utils.experiments.run_grid"}\n'
TAKEN = {"seed", "seconds", "error"}


def run_grid(
    trial: Callable[..., Mapping[str, Any]],
    grid: Grid | Sequence[Grid],
    *,
    seeds: Iterable[int],
    n_jobs: int | None = 1,
    progress: bool = True,
    resume: str | Path | None = None,
) -> pd.DataFrame:
    """Call ``trial(**setting, seed=seed)`` for each setting of a grid and each seed.

    Before a trial the generators of Python, NumPy and PyTorch are seeded with its seed, and it has one thread. So
    its result does not depend on `n_jobs`. Only trials in threads share these generators; there, draw from your own.

    Parameters
    ----------
    trial
        Returns what it measured, by name. A function of a notebook will do.
    grid
        Values by name, of which all combinations are tried, the last name in the alphabet changing fastest,
        or a list of such grids.
    seeds
        Seeds, each tried with every setting.
    n_jobs
        Trials at a time; -1: one for each core. None: as many as `joblib.parallel_config` says around the call,
        whose backend (loky, threading, dask) is used in any case. See `local_cluster`.
    progress
        Whether to show a progress bar.
    resume
        File that keeps each trial as soon as it is finished, one a line. Trials found there do not run again,
        unless they failed. Settings and results must then be numbers, texts, or lists of them.

    Returns
    -------
    pandas.DataFrame
        One row a trial, in the order of grid and seeds: the setting, `seed`, what the trial returned, `seconds`,
        and `error`, missing where the trial did not fail.

    Raises
    ------
    ValueError
        If there is nothing to try, a name is taken, or the file to resume from is not one of trials.
    TypeError
        If the values of a name are not in a list, or a setting cannot be written to the file.
    RuntimeError
        If a Dask worker runs several trials at a time in one process: they would share its generators.

    Warns
    -----
    RuntimeWarning
        If trials failed. The others are in the table.
    """
    import pandas as pd
    from tqdm.auto import tqdm

    seeds = [int(seed) for seed in seeds]
    tasks = [(setting, seed) for setting in _settings(grid) for seed in seeds]
    if not tasks:
        msg = "There is nothing to try: give at least one setting and one seed."
        raise ValueError(msg)
    taken = TAKEN & {name for setting, _ in tasks for name in setting}
    if taken:
        msg = f"The grid uses {sorted(taken)}, which run_grid fills itself. Take other names."
        raise ValueError(msg)
    rows: dict[int, dict[str, Any]] = {}
    if resume is not None:
        known = _read_trials(Path(resume))
        keys = [_key(*task) for task in tasks]
        rows = {i: known[key] for i, key in enumerate(keys) if key in known}
    todo = [i for i in range(len(tasks)) if i not in rows]
    parallel = joblib.Parallel(n_jobs=n_jobs, batch_size=1, return_as="generator_unordered")
    finished = parallel(joblib.delayed(_attempt)(i, trial, *tasks[i], plain=resume is not None) for i in todo)
    for i, row in tqdm(finished, desc="Trials", total=len(todo), disable=not progress):
        rows[i] = row
        if resume is not None:
            setting, seed = tasks[i]
            _append_trial(Path(resume), {"setting": setting, "seed": seed, "row": row})
    failed = [i for i, row in sorted(rows.items()) if row["error"] is not None]
    if failed:
        setting, seed = tasks[failed[0]]
        msg = f"{len(failed)} of {len(tasks)} trials failed, the first with {setting} and seed {seed}: "
        warnings.warn(msg + rows[failed[0]]["error"], RuntimeWarning, stacklevel=2)
    table = pd.DataFrame([setting | {"seed": seed} | rows[i] for i, (setting, seed) in enumerate(tasks)])
    # The columns in the same order whichever trial failed.
    return table[[name for name in table if name not in {"seconds", "error"}] + ["seconds", "error"]]


@contextmanager
def local_cluster(*, n_workers: int) -> Iterator[Client]:
    """Start a Dask cluster on this machine, on which ``run_grid(..., n_jobs=None)`` runs inside the `with` block.

    Each worker is a process of one thread that talks over TCP on loopback. If one is killed, another takes its
    place, and its trial runs again. On a cluster elsewhere the same takes two lines:
    ``client = Client(address)`` and ``with joblib.parallel_config("dask"): ...``.

    Dask's own threads draw from Python's `random` in the same process. A trial must not: take PyTorch's or NumPy's
    generators, or one of your own.

    Parameters
    ----------
    n_workers
        Number of processes.

    Yields
    ------
    distributed.Client
        The connection to the cluster.

    Raises
    ------
    ImportError
        If Dask is not installed.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as missing:
        msg = "A cluster needs Dask, which is not installed: pip install '.[scale]' in the folder of the course."
        raise ImportError(msg) from missing
    with (
        # Dask sets variables for its workers in this process. MALLOC_TRIM_THRESHOLD_ among them would make every
        # later process twice as slow: memory for each tensor would be asked from the system anew.
        keep_environment(),
        tempfile.TemporaryDirectory() as scratch,
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=n_workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            local_directory=scratch,
            silence_logs=logging.ERROR,  # that a worker was replaced, or ends late, is no news
        ) as cluster,
        Client(cluster) as client,  # type: ignore[no-untyped-call]
        joblib.parallel_config("dask"),
    ):
        yield client


def _settings(grid: Grid | Sequence[Grid]) -> Iterator[dict[str, Any]]:
    """Yield all combinations, as scikit-learn's ParameterGrid does, whose import alone takes 60 MB."""
    for one in [grid] if isinstance(grid, Mapping) else grid:
        for name, values in one.items():
            if isinstance(values, str) or not hasattr(values, "__iter__"):
                msg = f"{name}={values!r} needs to be a list of values to try, such as {name}=[{values!r}]."
                raise TypeError(msg)
        names = sorted(one)
        for combination in itertools.product(*(one[name] for name in names)):
            yield dict(zip(names, combination, strict=True))


def _check_worker() -> None:
    """Refuse a Dask worker with threads: trials in one process share the generators that seeds are for."""
    if "distributed" not in sys.modules:
        return
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:  # not in a worker
        return
    if worker.state.nthreads > 1:
        msg = (
            f"The Dask worker {worker.address} runs {worker.state.nthreads} trials at a time in one process, where "
            "they share generators: results would change from run to run. Start workers with one thread: "
            "LocalCluster(threads_per_worker=1), dask worker --nthreads 1."
        )
        raise RuntimeError(msg)


def _attempt(
    i: int, trial: Callable[..., Mapping[str, Any]], setting: dict[str, Any], seed: int, *, plain: bool
) -> tuple[int, dict[str, Any]]:
    """Run one trial on one thread; whatever goes wrong in it becomes its row's error."""
    _check_worker()
    num_threads = torch.get_num_threads()
    row: dict[str, Any] = {}
    error = None
    seed_everything(seed)
    begin = time.perf_counter()
    try:
        torch.set_num_threads(1)
        with threadpool_limits(1):
            row = _measure(trial, setting, seed)
        if plain:
            # What comes from a run is then the same as what comes from the file.
            row = json.loads(json.dumps(row, default=_to_plain))
    except Exception as problem:  # noqa: BLE001 (a trial may fail in any way and must not lose the others)
        row, error = {}, f"{type(problem).__name__}: {problem}"
    finally:
        torch.set_num_threads(num_threads)
    return i, row | {"seconds": time.perf_counter() - begin, "error": error}


def _measure(trial: Callable[..., Mapping[str, Any]], setting: dict[str, Any], seed: int) -> dict[str, Any]:
    row = dict(trial(**setting, seed=seed))
    taken = (TAKEN | setting.keys()) & row.keys()
    if taken:
        msg = f"The trial returned {sorted(taken)}, which are columns already. Take other names."
        raise ValueError(msg)
    return row


def _key(setting: dict[str, Any], seed: int) -> str:
    return json.dumps([setting, seed], sort_keys=True, default=_to_plain)


def _to_plain(value: Any) -> Any:
    """Turn numbers and arrays of NumPy and PyTorch into Python's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    msg = f"{value!r} cannot be kept in a file of trials. Name it by a text, and look it up in the trial."
    raise TypeError(msg)


def _read_trials(path: Path) -> dict[str, dict[str, Any]]:
    """Read the trials that did not fail; begin the file if it is new, cut off a line that was never finished."""
    content = path.read_bytes() if path.exists() else b""
    header = HEADER.encode()
    if not content.startswith(header) and not header.startswith(content):
        msg = f"{path} is not a file of trials. Give run_grid another name to resume from."
        raise ValueError(msg)
    end = content.rfind(b"\n") + 1
    if end == 0:
        path.write_bytes(header)
        return {}
    with path.open("r+b") as file:
        file.truncate(end)
    trials = {}
    for number, line in enumerate(content[len(header) : end].splitlines(), start=2):
        try:
            record = json.loads(line)
            if record["row"]["error"] is None:
                trials[_key(record["setting"], record["seed"])] = record["row"]
        except (KeyError, TypeError, ValueError) as problem:
            msg = f"Line {number} of {path} is not a trial. Remove that line; its trial will run again."
            raise ValueError(msg) from problem
    return trials


def _append_trial(path: Path, record: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, default=_to_plain) + "\n")
