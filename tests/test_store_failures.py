"""What may go wrong with data on a student's machine: a clear message or a recovery, never wrong data."""

import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import traceback

import pytest
from _servers import CONTENT, WEB_PAGE, A, Answer, B, FileServer, fresh_store, put

from course_utils import _download, _folders, _store

# Run in a process of its own: argv holds the data folder. Where tests run as root, the right to ignore
# permissions is given up first (Linux; it takes effect with execv).
CHILD = """
import os, sys, warnings
if os.geteuid() == 0 and "LOWERED" not in os.environ:
    import ctypes
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP
    os.environ["LOWERED"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
import hashlib
from pathlib import Path
from course_utils import _folders, _store
_store.data_folder = _folders.data_folder = lambda: Path(sys.argv[1])
warnings.simplefilter("always")
"""
OBTAIN = """
files = _store.obtain("letters")
print(files.origin, *(hashlib.sha256(path.read_bytes()).hexdigest() for path in files.paths.values()))
"""
HASHES = " ".join(hashlib.sha256(body).hexdigest() for body in CONTENT.values())


@pytest.fixture
def server():
    with FileServer().running() as server:
        server.serve_files()
        yield server


@pytest.fixture
def cache(monkeypatch, tmp_path, server):
    return fresh_store(monkeypatch, tmp_path, f"{server.url}/source")


@pytest.fixture
def _quick(monkeypatch):
    """Shorten the waits, so that a test of patience takes a second."""
    monkeypatch.setattr(_download, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(_store, "_FILE_SECONDS", 1.0)
    monkeypatch.setattr(_store, "_SLOWEST", 1e9)


def start(tmp_path, code=OBTAIN):
    command = [sys.executable, "-c", CHILD + code, str(tmp_path / "data")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.strip(), err


def refusal(name="letters"):
    """Return the message of the error that a strict caller gets."""
    with pytest.raises(_store.DatasetUnavailableError) as caught:
        _store.obtain(name, missing="error")
    return str(caught.value)


def files_below(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# Wrong contents.


@pytest.mark.parametrize(
    "claimed", [-1, len(CONTENT[A]), None], ids=["shorter file", "cut off", "cut off, no length"]
)
def test_a_truncated_file_is_fetched_again(cache, server, claimed):
    half = Answer(CONTENT[A][:2000], claimed=claimed)
    server.answers[f"/source/{A}"] = [half, Answer(CONTENT[A])]
    assert _store.obtain("letters", missing="error").paths[A].read_bytes() == CONTENT[A]
    assert server.requests.count(f"/source/{A}") == 2
    assert files_below(cache) == ["letters.a", "letters.b"]


def test_a_file_that_stays_truncated_is_given_up_after_three_attempts(cache, server):
    server.answers[f"/source/{A}"] = [Answer(CONTENT[A][:2000], claimed=len(CONTENT[A]))]
    assert "the connection was refused, broke off, or stayed silent" in refusal()
    assert server.requests == [f"/source/{A}"] * 3
    assert files_below(cache) == []


@pytest.mark.parametrize("name", ["letters", "archive"])
def test_a_web_page_instead_of_data_is_recognised(cache, server, name):
    server.answers |= {f"/source/{key}": [Answer(WEB_PAGE)] for key in (A, "x.npz")}
    assert "the server sent a wrong file: a web page (a login or an error page?) instead of data" in refusal(
        name
    )
    assert files_below(cache) == []


def test_a_pointer_instead_of_an_archive_is_recognised_without_a_hash(cache, server):
    server.answers["/source/x.npz"] = [Answer(b"version https://git-lfs.github.com/spec/v1\n")]
    assert "not a complete zip archive" in refusal("archive")
    assert files_below(cache) == []


def test_a_wrong_hash_upstream_names_both_and_is_not_tried_again(cache, server):
    wrong = CONTENT[A][::-1]
    server.answers[f"/source/{A}"] = [Answer(wrong)]
    message = refusal()
    assert f"wrong hash: 4000 bytes, sha256 {hashlib.sha256(wrong).hexdigest()}" in message
    assert f"expected 4000 bytes, sha256 {hashlib.sha256(CONTENT[A]).hexdigest()}" in message
    assert server.requests == [f"/source/{A}"]
    assert files_below(cache) == []


def test_a_wrong_file_in_the_shared_folder_is_announced_and_passed_over(monkeypatch, tmp_path, cache):
    shared = put(tmp_path / "shared", {A: CONTENT[A][::-1], B: CONTENT[B]})
    monkeypatch.setenv("COURSE_DATA_DIR", str(shared))
    with pytest.warns(UserWarning, match=r"letters\.a \(COURSE_DATA_DIR\) is passed over: wrong hash"):
        files = _store.obtain("letters")
    assert files.paths == {A: cache / A, B: shared / B}
    assert files.paths[A].read_bytes() == CONTENT[A]
    assert (shared / A).read_bytes() == CONTENT[A][::-1]


@pytest.mark.parametrize("stale", [b"", CONTENT[A][:100], CONTENT[A] + b"x", WEB_PAGE])
def test_a_stale_file_in_the_cache_is_replaced_silently(cache, stale):
    put(cache, {A: stale})
    files = _store.obtain("letters", missing="error")
    assert {key: path.read_bytes() for key, path in files.paths.items()} == CONTENT


# Servers and networks.


def test_a_busy_server_is_asked_three_times(monkeypatch, cache, server):
    server.serve_files("/mirror")
    server.answers[f"/mirror/{A}"] = [Answer(status=503), Answer(status=503), Answer(CONTENT[A])]
    monkeypatch.setenv("COURSE_DATA_URL", f"{server.url}/mirror")
    assert _store.obtain("letters", missing="error").paths[A] == cache / A
    assert server.requests == [f"/mirror/{A}"] * 3 + [f"/mirror/{B}"]


@pytest.mark.usefixtures("cache")
def test_a_mirror_that_lacks_the_file_is_not_replaced_by_the_source(monkeypatch, server):
    monkeypatch.setenv("COURSE_DATA_URL", f"{server.url}/mirror")
    assert f"mirror (COURSE_DATA_URL) {server.url}/mirror/{A}: the server answered 404 Not Found" in refusal()
    assert server.requests == [f"/mirror/{A}"]


@pytest.mark.usefixtures("cache")
def test_a_mirrors_password_is_sent_but_never_shown(monkeypatch, server):
    monkeypatch.setenv(
        "COURSE_DATA_URL", f"http://student:geheim@127.0.0.1:{server.port}/mirror?token=geheim"
    )
    for answer in (Answer(status=404), Answer(status=503), Answer(b"short", claimed=10), Answer(WEB_PAGE)):
        server.answers = {"/mirror": [answer]}
        with pytest.raises(_store.DatasetUnavailableError) as caught:
            _store.obtain("letters", missing="error")
        shown = "".join(traceback.format_exception(caught.value))
        assert f"http://127.0.0.1:{server.port}/mirror" in shown
        assert "geheim" not in shown
        assert "student" not in shown
    assert all(headers["Authorization"].startswith("Basic ") for headers in server.headers)


@pytest.mark.parametrize(
    "mirror", ["ftp://127.0.0.1/x", "/srv/mirror", "file:///srv", "127.0.0.1:8000", "http://"]
)
@pytest.mark.usefixtures("cache")
def test_a_mirror_must_be_a_web_address(monkeypatch, mirror):
    monkeypatch.setenv("COURSE_DATA_URL", mirror)
    assert "not an http:// or https:// address" in refusal()
    assert not _store.is_online()


@pytest.mark.parametrize("mirror", ["http://[", "http://127.0.0.1:port", "https://:@"])
@pytest.mark.usefixtures("cache")
def test_a_malformed_mirror_is_a_message(monkeypatch, mirror):
    monkeypatch.setenv("COURSE_DATA_URL", mirror)
    assert "does not answer" in refusal()


@pytest.mark.usefixtures("cache", "_quick")
def test_a_server_that_falls_silent_is_given_up(server):
    server.answers[f"/source/{A}"] = [Answer(CONTENT[A], pause=3)]
    before = time.monotonic()
    message = refusal()
    assert "stayed silent" in message
    assert time.monotonic() - before < 3


@pytest.mark.usefixtures("_quick")
def test_a_server_that_drips_is_given_up_at_the_deadline_and_not_asked_again(cache, server):
    server.answers[f"/source/{A}"] = [Answer(CONTENT[A], drip=0.05)]
    before = time.monotonic()
    assert "not complete after 1 s" in refusal()
    assert "does not answer" in refusal()
    assert time.monotonic() - before < 3
    assert files_below(cache) == []


def hanging_names(monkeypatch):
    """Let every look-up of a name hang, as with a name server behind a dead link."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(60) and [])
    return "http://data.example", released.set


def refused_port(_):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}", lambda: None


def full_queue(_):
    """Return a port that takes no more connections: packets to it are dropped, as on the way to nowhere."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = [socket.socket() for _ in range(3)]
    for client in waiting:
        client.setblocking(False)
        client.connect_ex(listener.getsockname())

    def close():
        for sock in (*waiting, listener):
            sock.close()

    return f"http://127.0.0.1:{listener.getsockname()[1]}", close


def accepting_but_mute(_):
    listener = socket.create_server(("127.0.0.1", 0))
    return f"http://127.0.0.1:{listener.getsockname()[1]}", listener.close


@pytest.mark.parametrize("network", [hanging_names, refused_port, full_queue, accepting_but_mute])
def test_a_machine_without_a_network_loses_less_than_five_seconds_once(monkeypatch, tmp_path, network):
    url, close = network(monkeypatch)
    try:
        fresh_store(monkeypatch, tmp_path, url)
        before = time.monotonic()
        with pytest.warns(_store.StandInWarning, match="no network, or the server does not answer"):
            assert _store.obtain("letters").is_standin
        with pytest.warns(_store.StandInWarning, match="archive"):
            assert _store.obtain("archive").is_standin
        assert not _store.is_online()
        assert not _download.is_online(url.replace("http:", "https:"))  # another server, the same silence
        assert time.monotonic() - before < 5
    finally:
        close()


# Disks.


def test_a_read_only_shared_folder_is_enough(monkeypatch, tmp_path, cache, server):
    shared = put(tmp_path / "shared")
    for path in [*shared.rglob("*"), shared]:
        path.chmod(0o555)
    monkeypatch.setenv("COURSE_DATA_DIR", str(shared))
    try:
        assert finish(start(tmp_path)) == (f"shared {HASHES}", "")
    finally:
        for path in [shared, *shared.rglob("*")]:
            path.chmod(0o755)
    assert server.requests == []
    assert not cache.exists()


@pytest.mark.usefixtures("cache")
def test_a_shared_file_that_may_not_be_read_is_announced_and_fetched(monkeypatch, tmp_path):
    shared = put(tmp_path / "shared")
    (shared / A).chmod(0)
    monkeypatch.setenv("COURSE_DATA_DIR", str(shared))
    out, err = finish(start(tmp_path))
    assert out == f"download {HASHES}"
    assert "letters.a (COURSE_DATA_DIR) is passed over: cannot be read (Permission denied)" in err


@pytest.mark.usefixtures("cache")
def test_a_read_only_home_costs_a_temporary_folder_that_goes_away(monkeypatch, tmp_path, server):
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o555)
    monkeypatch.delenv("COURSE_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    out, err = finish(start(tmp_path, OBTAIN * 2))
    assert out.splitlines() == [f"download {HASHES}", f"cache {HASHES}"]
    assert "cannot be written (Permission denied)" in err
    assert "Set COURSE_CACHE_DIR to a folder that you can write" in err
    assert len(server.requests) == 2
    assert list(tmp_path.glob("graph-ml-course-*")) == []


@pytest.mark.usefixtures("cache")
def test_without_any_place_to_write_the_standin_is_taken(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CACHE_DIR", "/dev/null/cache")
    code = "import tempfile\ntempfile.tempdir = '/dev/null'\n" + OBTAIN
    out, err = finish(start(tmp_path, code))
    assert out.startswith("standin ")
    assert "StandInWarning" in err


@pytest.mark.usefixtures("server")
def test_a_full_disk_is_a_message(tmp_path, cache):
    code = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n" + OBTAIN
    out, err = finish(start(tmp_path, code))
    assert out.startswith("standin ")
    assert f"{cache / 'cora'} cannot be written (File too large)" in err
    assert files_below(cache) == []


def test_a_download_killed_half_way_leaves_nothing_that_is_used(tmp_path, cache, server):
    server.answers[f"/source/{A}"] = [Answer(CONTENT[A], drip=0.001)]
    killed = start(tmp_path)
    deadline = time.monotonic() + 30
    while not any(part.stat().st_size for part in cache.rglob(".*.part")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (part,) = cache.rglob(".*.part")
    assert files_below(cache) == [part.name]

    server.serve_files()
    files = _store.obtain("letters", missing="error")
    assert {key: path.read_bytes() for key, path in files.paths.items()} == CONTENT
    assert part.exists()  # it might belong to a process that is still at work

    hour_ago = time.time() - _download.LEFTOVER_SECONDS - 1
    os.utime(part, (hour_ago, hour_ago))
    files.paths[B].unlink()
    _store.obtain("letters", missing="error")
    assert files_below(cache) == ["letters.a", "letters.b"]


def test_ten_processes_fetch_at_once_and_agree(tmp_path, cache, server):
    for key, body in CONTENT.items():
        server.answers[f"/source/{key}"] = [Answer(body, pause=0.5)]
    processes = [start(tmp_path) for _ in range(10)]
    while any(process.poll() is None for process in processes):
        for key in CONTENT:  # whoever looks sees no file or the whole file
            assert not (cache / key).exists() or (cache / key).read_bytes() == CONTENT[key]
        time.sleep(0.01)
    results = [finish(process) for process in processes]
    assert {out.split(maxsplit=1)[1] for out, _ in results} == {HASHES}
    assert files_below(cache) == ["letters.a", "letters.b"]
    assert server.requests.count(f"/source/{A}") > 1  # they really were at it together
    assert all(stat.S_IMODE((cache / key).stat().st_mode) & 0o040 for key in CONTENT)


def test_the_temporary_folder_is_made_once(tmp_path):
    _folders._temporary_cache.cache_clear()
    assert _folders._temporary_cache() == _folders._temporary_cache()
    assert tmp_path not in _folders._temporary_cache().parents
