"""What a data set consists of, and how a copy of one of its files is known to be right."""

from __future__ import annotations

import functools
import hashlib
import re
import tomllib
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MISSING = "missing"

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_WEB_PAGE = (b"<!doctype html", b"<html")
_HEAD_BYTES = 512


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Parameters
    ----------
    key
        Path below the shared folder, the cache and a mirror: `cora/ind.cora.x`.
    url
        Where its source has it.
    sha256
        Its hash, or "" if none is published.
    size
        Bytes, or 0 if unknown.
    """

    key: str
    url: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Dataset:
    """A data set of `data/registry.toml`; `standin` holds the keys of the files that replace it.

    With `on_request` it is large, no notebook loads it by default, and `data fetch` takes it only by name.
    """

    name: str
    title: str
    licence: str
    attribution: str
    citation: str
    homepage: str
    files: tuple[DataFile, ...]
    standin: tuple[str, ...]
    on_request: bool = False


@functools.cache
def read_registry(path: Path) -> dict[str, Dataset]:
    """Read a registry file; the data sets by name.

    Raises
    ------
    ValueError
        If a key could lead out of the folder it is used in.
    """
    datasets = {}
    for name, table in tomllib.loads(path.read_text(encoding="utf-8")).items():
        base = table.pop("url")
        files = tuple(
            DataFile(check_key(key), f"{base}/{entry['source']}", entry["sha256"], entry["size"])
            for key, entry in table.pop("files").items()
        )
        standin = tuple(check_key(key) for key in table.pop("standin"))
        datasets[name] = Dataset(name=name, files=files, standin=standin, **table)
    return datasets


def check_key(key: str) -> str:
    """Return a file key if it is made of plain names joined by slashes, none starting with a dot.

    Raises
    ------
    ValueError
        If it is not.
    """
    if not _KEY.fullmatch(key):
        msg = f"{key!r} is not a file key: plain names joined by slashes, none starting with a dot."
        raise ValueError(msg)
    return key


def find_fault(path: Path, file: DataFile) -> str:
    """Say what is wrong with a copy of a file; an empty string if nothing is."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
            stream.seek(0)
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            size = stream.tell()
    except (FileNotFoundError, NotADirectoryError):  # The second: the folder is below a plain file.
        return MISSING
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if sha256 == file.sha256:
        return ""
    if head.lstrip().lower().startswith(_WEB_PAGE):
        return "a web page (a login or an error page?) instead of data"
    if not file.sha256:
        return "" if zipfile.is_zipfile(path) else "not a complete zip archive"
    return f"wrong hash: {size} bytes, sha256 {sha256}; expected {file.size} bytes, sha256 {file.sha256}"
