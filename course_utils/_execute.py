"""Execute notebooks: time, processor time, peak memory, and where a cell failed."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbformat import NotebookNode

CELL_TIMEOUT = 600  # Seconds. A cell that takes longer hangs.
SAMPLE_SECONDS = 0.1
VIEW = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Execution:
    """What became of one notebook.

    Attributes
    ----------
    notebook
        The notebook with the outputs of the cells that were reached.
    seconds
        Wall-clock time, the kernel's start included.
    cpu_seconds
        Processor time of the kernel and its children.
    peak_bytes
        Most memory of the kernel and its children at a time.
    failure
        "" or one line: cell, error, message.
    """

    notebook: NotebookNode
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    failure: str


def execute(notebook: NotebookNode, folder: Path) -> Execution:
    """Run the cells from top to bottom in a fresh kernel whose working directory is `folder`.

    Parameters
    ----------
    notebook
        Gets the outputs, in place.
    folder
        Where the notebook lives.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    failure, started = "", 0
    usage = Usage()

    def on_start(cell_index: int, **_: object) -> None:
        nonlocal started
        started = cell_index
        usage.watch(client.km)

    client: NotebookClient = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        store_widget_state=False,  # Progress bars keep their text; their state would need scripts from afar.
        # The kernel talks over loopback to this process alone; its warning about that is for servers.
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        on_cell_start=on_start,
    )
    start = time.perf_counter()
    try:
        client.execute()
    except CellExecutionError as error:
        failure = f"{_where(notebook, started)}: {error.ename}: {error.evalue}"
    except CellTimeoutError:
        failure = f"{_where(notebook, started)}: took longer than {CELL_TIMEOUT} s"
    except DeadKernelError:
        failure = f"{_where(notebook, started)}: the kernel died (out of memory?)"
    finally:
        usage.stop()
    seconds = time.perf_counter() - start
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
    return Execution(notebook, seconds, usage.cpu_seconds, usage.peak_bytes, failure)


def _is_progress(output: NotebookNode) -> bool:
    """Whether it is a progress bar: without a kernel that moves it, it would stand at 0 % for ever."""
    data = output.get("data", {})
    return VIEW in data and "%|" in data.get("text/plain", "")


def _where(notebook: NotebookNode, index: int) -> str:
    """Name a cell, counted from 1 as a reader counts, and its first line."""
    lines = notebook.cells[index].source.splitlines()
    first_line = next((line for line in lines if line.strip()), "")
    return f"cell {index + 1} ({first_line.strip()[:60]!r})"


class Usage:
    """Sample what a kernel and its children use, until stopped.

    Attributes
    ----------
    cpu_seconds
        Processor time of all of them.
    peak_bytes
        Most memory of all of them at a time. Pages that they share count once, as a hub's limit counts them, where
        the system tells (Linux).
    """

    def __init__(self) -> None:
        self.cpu_seconds = 0.0
        self.peak_bytes = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, kernel_manager: Any) -> None:
        """Start sampling, once."""
        if self._thread is None:
            pid = kernel_manager.provisioner.pid
            self._thread = threading.Thread(target=self._sample, args=(pid,), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop sampling."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _sample(self, pid: int) -> None:
        import psutil

        while not self._stop.wait(SAMPLE_SECONDS):
            try:
                kernel = psutil.Process(pid)
                family = [kernel, *kernel.children(recursive=True)]
                cpu_seconds = sum(sum(process.cpu_times()[:4]) for process in family)
                held = sum(map(_memory, family)) if len(family) > 1 else 0
            except psutil.NoSuchProcess:
                continue  # One of them ended while it was looked at.
            self.cpu_seconds = max(self.cpu_seconds, cpu_seconds)
            self.peak_bytes = max(self.peak_bytes, _high_water(pid) or _memory(kernel), held)


def _memory(process: Any) -> int:
    """Return the bytes a process holds; of a page that several share, its part."""
    import psutil

    try:
        info = process.memory_full_info()
    except psutil.AccessDenied:  # a process that has just begun
        info = process.memory_info()
    return int(getattr(info, "pss", 0) or info.rss)


def _high_water(pid: int) -> int:
    """Read the kernel process's peak resident bytes where Linux tells it; 0 elsewhere."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(line.split()[1]) * 1024
