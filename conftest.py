"""What holds for notebooks as for tests: no network but loopback, a share of the cores, and limits."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell

from course_utils._execute import Usage

ROOT = Path(__file__).resolve().parent
MAX_BYTES = 2**30
NOT_LOOKED_AT = {
    ".venv",
    ".git",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    "build",
    "node_modules",
}

# pytest-socket closes the network to this process. Kernels and other child processes are sent to a proxy that is
# not there; loopback servers of the tests are reached directly.
for variable in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
    os.environ[variable] = "http://127.0.0.1:9"
for variable in ("NO_PROXY", "no_proxy"):
    os.environ[variable] = "127.0.0.1,localhost,::1"

# Processes that test side by side get a share of the cores each. Threads of two that spin on the same cores take
# several times as long.
worker = os.environ.get("PYTEST_XDIST_WORKER", "")
if worker and hasattr(os, "sched_setaffinity"):
    own = sorted(os.sched_getaffinity(0))[int(worker[2:]) :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]
    if own:
        os.sched_setaffinity(0, own)


@pytest.fixture(scope="session", autouse=True)
def _empty_cache():
    """Whatever a user has cached, the tests see COURSE_DATA_DIR (if set) or the stand-ins."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COURSE_CACHE_DIR"] = folder
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if isinstance(item, IPyNbCell) and not hasattr(item.parent, "usage"):
        item.parent.usage, item.parent.files = Usage(), dict(_files())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item, nextitem):
    """Watch the kernel from the first cell of a notebook on, and judge after the last, when it has been stopped."""
    if not isinstance(item, IPyNbCell):
        return (yield)
    notebook, usage = item.parent, item.parent.usage
    usage.watch(notebook.kernel.km)
    is_last = nextitem is None or nextitem.parent is not notebook
    if is_last:
        usage.stop()
    yield
    if is_last:
        budget = notebook.nb.metadata.course.budget_s
        assert usage.cpu_seconds <= budget, f"{usage.cpu_seconds:.0f} s of processor time, budget {budget} s"
        assert usage.peak_bytes <= MAX_BYTES, f"{usage.peak_bytes / 2**20:.0f} MB of memory"
        left = {str(path) for path, _ in set(_files()) ^ set(notebook.files.items())}
        assert not left, f"the notebook leaves or changes files: {left}"
    return None


def _files():
    for parent, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in NOT_LOOKED_AT]
        for name in names:
            path = Path(parent) / name
            with suppress(FileNotFoundError):  # What has gone again was not left.
                yield path, path.stat().st_mtime_ns
