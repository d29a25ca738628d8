"""The folders that data files live in: the repository's, a hub's, the user's, this process's."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import platformdirs

from course_utils._registry import check_key

if TYPE_CHECKING:
    from collections.abc import Iterator

Origin = Literal["shared", "cache", "download", "standin"]

_APP_NAME = "graph-ml-course"


def data_folder() -> Path:
    """Return the folder of the registry and the stand-ins: the repository's `data` or the wheel's."""
    package = Path(__file__).resolve().parent
    installed = package / "_data"
    return installed if installed.is_dir() else package.parent / "data"


def shared_folder() -> Path | None:
    """Return the folder named by `COURSE_DATA_DIR`, whether it exists or not, or None.

    A relative path counts from the working directory and, if there is nothing, from the folder of the
    checkout, because notebooks run in `notebooks/`.
    """
    value = os.environ.get("COURSE_DATA_DIR")
    if not value:
        return None
    folder = Path(value).expanduser()
    in_checkout = data_folder().parent / folder
    return (in_checkout if in_checkout.is_dir() and not folder.is_dir() else folder).absolute()


def cache_folder() -> Path:
    """Return the user's cache, whether it exists or not: `COURSE_CACHE_DIR`, or the system's place."""
    value = os.environ.get("COURSE_CACHE_DIR")
    try:
        return Path(value).expanduser().absolute() if value else platformdirs.user_cache_path(_APP_NAME)
    except RuntimeError:  # a user without a home directory
        return _temporary_cache()


def writable_cache_folder() -> Path:
    """Return the cache if it can be written; else warn and return a folder that ends with this process."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        text = (
            f"The cache {folder} cannot be written ({error.strerror}): downloads are kept in a temporary "
            "folder until this process ends. Set COURSE_CACHE_DIR to a folder that you can write."
        )
        warnings.warn(text, stacklevel=2)
        return _temporary_cache()
    return folder


def places() -> Iterator[tuple[Origin, Path]]:
    """Yield the folders that may hold a data file, the first to look in first."""
    shared = shared_folder()
    if shared is not None:
        yield "shared", shared
    yield "cache", cache_folder()
    if _temporary_cache.cache_info().currsize:  # only if this process has had to make one
        yield "cache", _temporary_cache()


def locate_extra(key: str) -> Path | None:
    """Find a file that is not registered, such as a saved OpenStreetMap graph, in shared folder or cache.

    Nothing is known about its contents: it must not be unpickled.

    Raises
    ------
    ValueError
        If the key is anything but plain names joined by slashes.
    """
    check_key(key)
    for _, folder in places():
        path = folder / key
        with suppress(PermissionError):
            if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
                return path
    return None


@functools.cache
def _temporary_cache() -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"{_APP_NAME}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
