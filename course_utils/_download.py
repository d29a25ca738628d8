"""One file from a web server: bounded in time, checked before it counts, whole or absent."""

from __future__ import annotations

import os
import re
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, BinaryIO, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

PROBE_SECONDS = 3.0
LATER_PROBE_SECONDS = 0.5
CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 10.0
ATTEMPTS = 3
LEFTOVER_SECONDS = 3600.0
FILE_MODE = 0o644  # temporary files are born 0600; on a hub the cache may be shared with a group

_SERVER_FAULT = 500
_TOO_MANY_REQUESTS = 429

_answered: dict[str, bool] = {}


class DownloadError(Exception):
    """A file could not be downloaded; the message says why, without credentials."""


class _TransientError(DownloadError):
    """A failure that may pass if tried again."""


def without_credentials(url: str) -> str:
    """Return an address that can be shown: no user, no password, no query."""
    return re.sub(r"//.*@", "//", url.partition("?")[0])


def is_online(url: str) -> bool:
    """
    Tell whether a server answers at all, within 3 seconds.

    Any HTTP answer counts, an error included. The answer is remembered until the process ends, so that a
    machine without a network waits once.
    """
    try:
        server = _server(url)
    except ValueError:
        return False  # not an address
    if server not in _answered:
        # Where one server was silent, the next is most likely silent too.
        seconds = PROBE_SECONDS if all(_answered.values()) else LATER_PROBE_SECONDS
        _answered[server] = _probe(server, seconds)
    return _answered[server]


def download(url: str, target: Path, *, size: int, seconds: float, check: Callable[[Path], str]) -> None:
    """
    Download a file, check it, and only then move it to its place in one step.

    Any number of processes may do this for the same file at once: each writes a temporary file of its own
    beside the target and the last move wins. What a killed process left behind is removed after an hour.

    Parameters
    ----------
    url
        Address of the file.
    target
        Where the file goes; its folder is made if it does not exist.
    size
        Expected size in bytes. A faulty file shorter than this is tried again. 0 if unknown.
    seconds
        Time for all attempts together.
    check
        Says what is wrong with a file, or nothing (an empty string).

    Raises
    ------
    DownloadError
        If the server does not deliver the right file in time, or the folder cannot be written.
    """
    deadline = time.monotonic() + seconds
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target.parent)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _attempt(url, target, size=size, seconds=deadline - time.monotonic(), check=check)
            except _TransientError:
                if attempt == ATTEMPTS or time.monotonic() + attempt > deadline:
                    raise
                time.sleep(attempt / 2)
            else:
                return
    except OSError as error:
        msg = f"{target.parent} cannot be written ({error.strerror})"
        raise DownloadError(msg) from error


def _attempt(url: str, target: Path, *, size: int, seconds: float, check: Callable[[Path], str]) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            _stream(url, file, label=target.name, size=size, seconds=seconds)
        fault = check(part)
        if fault:
            msg = f"the server sent a wrong file: {fault}"
            raise (_TransientError if part.stat().st_size < size else DownloadError)(msg)
        part.chmod(FILE_MODE)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _stream(url: str, file: BinaryIO, *, label: str, size: int, seconds: float) -> None:
    """Copy an address into an open file; errors are told apart by whether a second attempt may help."""
    import pooch
    import requests
    from tqdm import tqdm

    responses: list[requests.Response] = []

    def fetch() -> None:
        try:
            downloader(url, file, None)
        finally:
            for response in responses:  # pooch leaves an answer open when it raises
                response.close()

    # pooch sets the total once it knows better; a bar without one has no truth value.
    with tqdm(desc=label, total=size or 1, unit="B", unit_scale=True, leave=False) as bar:
        downloader = pooch.HTTPDownloader(
            progressbar=bar,
            timeout=(CONNECT_SECONDS, SILENCE_SECONDS),
            hooks={"response": lambda response, **_: responses.append(response)},
        )
        try:
            # A thread, because a server that sends a byte now and then never runs into a timeout.
            # When time is up the file is closed, which ends the thread at its next write.
            _within(seconds, fetch)
        # Each error hides its cause: the original texts repeat the address with its password.
        except TimeoutError:
            _answered[_server(url)] = False
            msg = f"not complete after {seconds:.0f} s"
            raise DownloadError(msg) from None
        except requests.HTTPError as error:
            status = error.response.status_code
            msg = f"the server answered {status} {error.response.reason}"
            passing = status >= _SERVER_FAULT or status == _TOO_MANY_REQUESTS
            raise (_TransientError if passing else DownloadError)(msg) from None
        except requests.exceptions.SSLError:
            msg = "the server's certificate was not accepted"
            raise DownloadError(msg) from None
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            msg = "the connection was refused, broke off, or stayed silent"
            raise _TransientError(msg) from None
        except requests.RequestException as error:
            msg = f"the request failed ({type(error).__name__})"
            raise DownloadError(msg) from None


def _probe(server: str, seconds: float) -> bool:
    import requests

    try:
        _within(seconds, lambda: requests.head(server, timeout=seconds, allow_redirects=False))
    except requests.exceptions.SSLError:
        return True  # something answered; the download will say what is wrong with it
    except (requests.RequestException, TimeoutError):
        return False
    return True


def _server(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"


def _within(seconds: float, action: Callable[[], T]) -> T:
    """
    Run something in a thread and wait for it a bounded time.

    A thread, because no timeout of a socket covers a name server that hangs.
    """
    outcome: Future[T] = Future()

    def work() -> None:
        try:
            outcome.set_result(action())
        except Exception as error:  # noqa: BLE001 - handed over to the waiting thread, which raises it
            outcome.set_exception(error)

    Thread(target=work, daemon=True).start()
    return outcome.result(timeout=seconds)


def _remove_leftovers(folder: Path) -> None:
    for part in folder.glob(".*.part"):
        try:
            if time.time() - part.stat().st_mtime > LEFTOVER_SECONDS:
                part.unlink()
        except FileNotFoundError:
            continue  # another process was quicker
