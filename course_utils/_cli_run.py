"""``python -m course_utils run``: execute notebooks, in order, and write them with their outputs and as HTML."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from course_utils import _execute, _html, _machine, _store

if TYPE_CHECKING:
    import argparse

BUILD = Path("build")
EXECUTED = BUILD / "executed"  # What the slides and the book are made from.
MEMORY_EACH = 3 * 2**29  # Bytes. A notebook takes up to 1 GB, and its process something.


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``run`` to the parser's `commands`."""
    parser = commands.add_parser("run", help="execute notebooks and write them as HTML")
    parser.add_argument("notebook", nargs="*", help="path, name or number; all of notebooks/ by default")
    parser.add_argument("--jobs", type=int, metavar="N", help="notebooks at a time; by default what fits")
    parser.set_defaults(func=_run)


def _run(options: argparse.Namespace) -> int:
    import joblib
    import nbformat
    from tqdm.auto import tqdm

    from course_utils import runtime

    notebooks = _find(options.notebook)
    if isinstance(notebooks, str):
        print(notebooks, file=sys.stderr)
        return 2
    if options.jobs is not None and options.jobs < 1:
        print(f"--jobs {options.jobs}: at least one notebook at a time.", file=sys.stderr)
        return 2
    EXECUTED.mkdir(parents=True, exist_ok=True)
    mathjax_folder = "mathjax" if _html.copy_mathjax(BUILD / "mathjax") else ""
    jobs = min(options.jobs or _possible_jobs(), len(notebooks))
    side_by_side = f", {jobs} notebooks at a time" if jobs > 1 else ""
    print(f"Data: {runtime.data_line()}{side_by_side}.")
    failures = []
    print(f"\n{'notebook':32} {'seconds':>8} {'peak memory':>12}  outcome")
    parallel = joblib.Parallel(n_jobs=jobs, batch_size=1, return_as="generator")
    finished = parallel(joblib.delayed(_execute_file)(path.resolve()) for path in notebooks)
    with tqdm(total=len(notebooks), unit="notebook", leave=False, disable=None) as progress:
        for path, done in zip(notebooks, finished, strict=True):
            page = _html.to_html(done.notebook, path.stem, mathjax_folder=mathjax_folder)
            (BUILD / f"{path.stem}.html").write_text(page, encoding="utf-8")
            outcome = "ok" if not done.failure else "FAILED"
            progress.update()
            progress.write(f"{path.stem:32} {done.seconds:8.1f} {done.peak_bytes / 2**20:9.0f} MB  {outcome}")
            sys.stdout.flush()
            if done.failure:
                failures.append(f"{path}, {done.failure}")
            else:
                nbformat.write(done.notebook, EXECUTED / path.name)  # type: ignore[no-untyped-call]  # not annotated
    print(f"\nThe executed course: {(BUILD / f'{notebooks[0].stem}.html').resolve().as_uri()}")
    if len(notebooks) > 1:
        print(f"and {len(notebooks) - 1} more in {BUILD.resolve()}")
    if not mathjax_folder:
        print(_html.NO_MATHJAX)
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _execute_file(path: Path) -> _execute.Execution:
    """Execute one notebook; several at a time are processes, among which joblib shares the threads out."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # nbformat is not annotated
    return _execute.execute(notebook, path.parent)


def _possible_jobs() -> int:
    """Count the notebooks that can run side by side: one a core, as far as free memory goes."""
    import psutil

    memory = min(_machine.memory_limit(), psutil.virtual_memory().available)
    return max(1, min(_machine.available_cores(), int(memory) // MEMORY_EACH))


def _find(names: list[str]) -> list[Path] | str:
    """Find notebooks by path, name or number; a text says what was not found."""
    root = next(
        (f for f in (Path("notebooks"), _store.data_folder().parent / "notebooks") if f.is_dir()), None
    )
    known = sorted(root.glob("[0-9]*.ipynb")) if root else []
    if not known and not names:
        return "There is no folder 'notebooks' here. Run this in the course's folder, or name the notebooks."
    chosen = []
    for name in names:
        matches = [path for path in known if name in (path.stem, path.stem.split("_")[0])]
        path = Path(name)
        if path.suffix == ".ipynb" and path.is_file():
            matches = [path]
        if not matches:
            return f"No notebook {name!r}. There are: {', '.join(path.stem for path in known)}."
        chosen += matches
    return chosen or known
