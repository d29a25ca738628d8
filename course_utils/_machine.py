"""What this process may really use: cores by quota, memory by limit."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
_NO_LIMIT_V1 = 2**60  # Version 1 writes a number near 2**63 where there is no limit.


def available_cores(cgroup: Path = CGROUP) -> int:
    """Count the cores this process may use, at least 1: visible cores, or fewer where a quota says so.

    A container on a large machine sees all its cores and may use a few. As many threads as it sees would then
    wait for each other. OMP_NUM_THREADS counts as a quota too: who starts several processes side by side sets it.

    Parameters
    ----------
    cgroup
        Where control groups are mounted; version 2 (``cpu.max``) and 1 (``cpu.cfs_quota_us``) are read.
    """
    visible = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [visible, _quota(cgroup)]
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit():
        limits.append(int(threads))
    return max(1, int(min(limit for limit in limits if limit is not None)))


def memory_limit(cgroup: Path = CGROUP) -> int:
    """Give the bytes of memory this process may use: the machine's, or fewer where a limit says so."""
    import psutil

    limits = [int(psutil.virtual_memory().total)]
    for folder in _own_groups(cgroup, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name)
            if text.isdigit() and int(text) < _NO_LIMIT_V1:
                limits.append(int(text))
    return min(limits)


def _quota(cgroup: Path) -> float | None:
    """Cores granted by the tightest quota on the way from this process's group to the root."""
    quotas = []
    for folder in _own_groups(cgroup, "cpu"):
        version_2 = _read(folder / "cpu.max").split()
        version_1 = [_read(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
        for granted, period in (version_2 or ("", ""), version_1):
            if granted.isdigit() and period.isdigit():
                quotas.append(int(granted) / int(period))
    return min(quotas, default=None)


def _own_groups(cgroup: Path, controller: str) -> list[Path]:
    """List the folders of this process's group and of the groups above it, and the mount's roots."""
    folders = [cgroup, cgroup / controller]
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = cgroup / controller if controllers else cgroup
        parts = [part for part in path.split("/") if part not in {"", ".."}]
        folders += [base.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    return folders


def _read(path: Path) -> str:
    """Read a small system file; one that is not there says nothing."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
