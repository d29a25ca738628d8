"""Where data come from: the order of the places, what each call reports, and the command line."""

import argparse
import hashlib
import os
import stat
import warnings
from pathlib import Path

import pytest
from _servers import CONTENT, STANDIN, A, B, FileServer, fresh_store, put

from course_utils import _cli_data, _folders, _osm, _registry, _standin_citations, _standin_streets, _store
from course_utils.datasets import load_cambridge, load_cora


@pytest.fixture
def server():
    with FileServer().running() as server:
        server.serve_files()
        yield server


@pytest.fixture
def cache(monkeypatch, tmp_path, server):
    return fresh_store(monkeypatch, tmp_path, f"{server.url}/source")


def contents(files):
    return {key: path.read_bytes() for key, path in files.paths.items()}


def snapshot(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_mode) for path in folder.rglob("*")}


def test_shared_folder_comes_first_and_is_never_written(monkeypatch, tmp_path, cache, server):
    shared = put(tmp_path / "shared")
    put(cache)
    before = snapshot(shared)
    monkeypatch.setenv("COURSE_DATA_DIR", str(shared))
    files = _store.obtain("letters")
    assert (files.origin, files.is_standin) == ("shared", False)
    assert files.paths == {key: shared / key for key in CONTENT}
    assert snapshot(shared) == before
    assert server.requests == []


def test_cache_comes_second_and_origin_names_the_farthest_place(monkeypatch, tmp_path, cache, server):
    shared = put(tmp_path / "shared", {A: CONTENT[A]})
    put(cache, {B: CONTENT[B]})
    monkeypatch.setenv("COURSE_DATA_DIR", str(shared))
    files = _store.obtain("letters")
    assert files.origin == "cache"
    assert files.paths == {A: shared / A, B: cache / B}
    assert server.requests == []


def test_missing_files_are_downloaded_once_into_the_cache_and_readable_by_the_group(cache, server):
    files = _store.obtain("letters", missing="error")
    assert files.origin == "download"
    assert contents(files) == CONTENT
    assert all(path == cache / key for key, path in files.paths.items())
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o440 == 0o440 for path in files.paths.values())
    assert _store.obtain("letters").origin == "cache"
    assert server.requests == [f"/source/{A}", f"/source/{B}"]


def test_a_mirror_is_asked_instead_of_the_source(monkeypatch, cache, server):
    server.serve_files("/mirror")
    monkeypatch.setenv("COURSE_DATA_URL", f"{server.url}/mirror/")
    assert contents(_store.obtain("letters")) == CONTENT
    assert server.requests == [f"/mirror/{A}", f"/mirror/{B}"]
    assert (cache / A).is_file()


def test_the_standin_is_taken_with_a_warning_and_remembered(tmp_path, cache, server):
    server.answers.clear()
    assert _store.standins_in_use() == ()
    with pytest.warns(_store.StandInWarning, match="made-up data"):
        files = _store.obtain("letters")
    assert (files.origin, files.is_standin) == ("standin", True)
    assert files.paths == {STANDIN: tmp_path / "data" / "standin" / STANDIN}
    assert _store.standins_in_use() == ("letters",)
    assert _store.sources_in_use() == {"letters": files}
    server.serve_files()
    _store.obtain("letters")
    assert _store.standins_in_use() == ()
    assert _store.sources_in_use()["letters"].origin == "download"
    assert cache.is_dir()


@pytest.mark.usefixtures("cache")
def test_the_warning_is_shown_once(server):
    server.answers.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            _store.obtain("letters")
    assert [w.category for w in caught] == [_store.StandInWarning]


@pytest.mark.parametrize("load", [load_cambridge, load_cora])
def test_warnings_point_at_the_caller_of_the_public_loader(monkeypatch, tmp_path, load):
    files = [file for name in ("cambridge", "cora") for file in _store.registered(name).files]
    shared = put(tmp_path / "shared", {file.key: b"rotten" for file in files})
    monkeypatch.setattr(_store, "_in_use", {})
    monkeypatch.setenv("COURSE_DATA_DIR", str(shared))
    monkeypatch.setenv("COURSE_DATA_URL", "http://127.0.0.1:9/mirror")  # the discard port: nothing listens
    monkeypatch.delenv("COURSE_STRICT_DATA", raising=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load()
    assert "passed over" in str(caught[0].message)
    assert {warning.category for warning in caught} == {UserWarning, _store.StandInWarning}
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.usefixtures("cache")
def test_a_standin_that_is_asked_for_needs_no_warning(server):
    assert _store.obtain_standin("letters").is_standin
    assert _store.standins_in_use() == ("letters",)
    assert server.requests == []


def test_real_files_and_standins_are_never_mixed(cache, server):
    put(cache, {A: CONTENT[A]})
    server.answers.clear()
    with pytest.warns(_store.StandInWarning, match=B):
        files = _store.obtain("letters")
    assert list(files.paths) == [STANDIN]


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_strict_mode_names_file_places_variables_and_mend(monkeypatch, tmp_path, cache, server, how):
    server.answers.clear()
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "nowhere"))
    if how == "variable":
        monkeypatch.setenv("COURSE_STRICT_DATA", "1")
    with pytest.raises(_store.DatasetUnavailableError) as caught:
        _store.obtain("letters", missing="error" if how == "argument" else "standin")
    assert str(caught.value).splitlines() == [
        f"The data set 'letters' is not available: {A} (one of 2 that are not here) could not be had.",
        f"  COURSE_DATA_DIR {tmp_path / 'nowhere'}: no such folder",
        f"  cache (COURSE_CACHE_DIR) {cache}: missing",
        f"  source {server.url}/source/{A}: the server answered 404 Not Found",
        (
            "To mend it, run `python -m course_utils data fetch letters` where there is a network, or set "
            "COURSE_DATA_DIR to a folder with the files, or COURSE_DATA_URL to a mirror, and restart Python."
        ),
    ]
    assert _store.sources_in_use() == {}


@pytest.mark.usefixtures("cache")
def test_strict_zero_is_not_strict(monkeypatch, server):
    server.answers.clear()
    monkeypatch.setenv("COURSE_STRICT_DATA", "0")
    with pytest.warns(_store.StandInWarning, match="COURSE_DATA_DIR: not set"):
        assert _store.obtain("letters").is_standin


@pytest.mark.usefixtures("cache")
def test_a_lost_standin_is_said_with_its_mend(tmp_path, server):
    server.answers.clear()
    (tmp_path / "data" / "standin" / STANDIN).unlink()
    with pytest.raises(_store.DatasetUnavailableError, match="python -m course_utils data standins"):
        _store.obtain("letters")


@pytest.mark.usefixtures("cache")
def test_unknown_names_and_modes_are_refused_with_the_valid_ones():
    with pytest.raises(ValueError, match="no data set 'lettres'; there are letters, archive"):
        _store.obtain("lettres")
    with pytest.raises(ValueError, match="'eror' is unknown; take 'standin' or 'error'"):
        _store.obtain("letters", missing="eror")


@pytest.mark.usefixtures("cache")
def test_a_relative_shared_folder_counts_from_here_and_then_from_the_checkout(monkeypatch, tmp_path):
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    monkeypatch.chdir(notebooks)
    monkeypatch.setenv("COURSE_DATA_DIR", "shared")
    assert _store.shared_folder() == notebooks / "shared"  # nowhere: named as it was meant
    put(tmp_path / "shared")
    assert _store.obtain("letters").paths[A] == tmp_path / "shared" / A
    put(notebooks / "shared")
    assert _store.obtain("letters").paths[A] == notebooks / "shared" / A


def test_status_looks_without_downloading(monkeypatch, tmp_path, cache, server):
    shared = put(tmp_path / "shared", {A: b"something else"})
    monkeypatch.setenv("COURSE_DATA_DIR", str(shared))
    letters, archive = _store.status()
    assert (letters.dataset.name, letters.origin, letters.found) == ("letters", "standin", {})
    assert [copy.path for copy in letters.wrong] == [shared / A]
    assert "wrong hash: 14 bytes" in letters.wrong[0].fault
    assert (archive.origin, archive.wrong) == ("standin", ())
    put(cache)
    assert _store.status()[0].origin == "cache"
    assert server.requests == []


KEYS_REFUSED = [
    "../x",
    "a/../../x",
    "/etc/passwd",
    "a//b",
    "a\\..\\b",
    ".hidden",
    "a/.b",
    "",
    "a/",
    "~/x",
    "C:/x",
    "a\nb",
]


@pytest.mark.parametrize("key", KEYS_REFUSED)
@pytest.mark.usefixtures("cache")
def test_keys_that_could_lead_elsewhere_are_refused(tmp_path, key):
    with pytest.raises(ValueError, match="is not a file key"):
        _store.locate_extra(key)
    registry = tmp_path / "bad.toml"
    quoted = key.replace("\\", "\\\\").replace("\n", "\\n")
    registry.write_text(
        f'[x]\nurl = "u"\nstandin = []\nfiles."{quoted}" = {{source = "s", sha256 = "", size = 0}}'
    )
    with pytest.raises(ValueError, match="is not a file key"):
        _registry.read_registry(registry)


def test_an_unregistered_file_is_found_in_shared_folder_and_cache_only(monkeypatch, tmp_path, cache):
    key = "cambridge-osm/cambridge.graphml"
    assert _store.locate_extra(key) is None
    put(cache, {key: b"<graphml/>"})
    assert _store.locate_extra(key) == cache / key
    shared = put(tmp_path / "shared", {key: b"<graphml/>"})
    monkeypatch.setenv("COURSE_DATA_DIR", str(shared))
    assert _store.locate_extra(key) == shared / key
    (shared / key).unlink()
    (tmp_path / "outside").write_text("secret")
    (shared / key).symlink_to(tmp_path / "outside")
    assert _store.locate_extra(key) == cache / key


def test_a_user_without_a_home_gets_a_cache_that_ends_with_the_process(monkeypatch, tmp_path):
    def nobody(_):
        raise KeyError

    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_CACHE_HOME", "COURSE_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    _folders._temporary_cache.cache_clear()
    folder = _store.cache_folder()
    assert folder.is_absolute()
    assert folder.is_dir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(tmp_path.iterdir()) == []  # and no folder named ~


def test_the_default_cache_is_the_systems(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path in _store.cache_folder().parents
    assert _store.cache_folder().name == "graph-ml-course"


@pytest.mark.parametrize("name", ["cambridge", "cora", "cora-full"])
def test_every_real_file_is_registered_as_it_is(name):
    """Holds for whatever COURSE_DATA_DIR has, which may be nothing; SHA256SUMS may lie beside the files."""
    dataset = _store.registered(name)
    for file in dataset.files:
        faults = [copy.fault for copy in _store.copies(file) if copy.origin == "shared"]
        assert faults in ([], [""], ["missing"])
        assert file.url.startswith("https://")
        assert file.key.startswith(f"{name}/")
    sums = (_store.shared_folder() or Path("nowhere")) / "SHA256SUMS"
    listed = dict(reversed(line.split()) for line in sums.read_text().splitlines()) if sums.is_file() else {}
    ours = {file.key: file.sha256 for file in dataset.files if file.sha256}
    assert {key: listed.get(key) for key in ours} == ours or not listed  # the folder may hold more
    for key in dataset.standin:
        assert (_store.data_folder() / "standin" / key).is_file()


def test_the_registry_holds_the_three_data_sets_and_invents_no_hash():
    datasets = _store.registry()
    assert {name: len(dataset.files) for name, dataset in datasets.items()} == {
        "cambridge": 5,
        "cora": 8,
        "cora-full": 1,
    }
    unhashed = [file.key for dataset in datasets.values() for file in dataset.files if not file.sha256]
    assert unhashed == ["cora-full/cora.npz"]
    assert set(datasets["cambridge"].standin) == {file.key for file in datasets["cambridge"].files}


def run(*words):
    parser = argparse.ArgumentParser()
    _cli_data.add_parser(parser.add_subparsers())
    options = parser.parse_args(["data", *words])
    return options.func(options)


def test_data_status_is_a_table(capsys, cache):
    put(cache, {A: CONTENT[A], B: b"broken"})
    assert run("status") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["data", "set", "from", "files", "hash", "folder"]
    assert lines[1].split() == ["letters", "standin", "1/2", "wrong,", "see", "below", str(cache)]
    assert lines[2].startswith(f"  {cache / B}: wrong hash: 6 bytes")
    assert lines[3].split() == ["archive", "standin", "0/1", "-", "-"]


def test_data_fetch_downloads_what_is_named(capsys, cache, server):
    assert run("fetch", "letters") == 0
    assert contents(_store.obtain("letters")) == CONTENT
    assert capsys.readouterr().out == f"letters: 2 file(s) in {cache / 'cora'} (download, hash ok)\n"
    assert server.requests == [f"/source/{A}", f"/source/{B}"]


@pytest.mark.usefixtures("cache")
def test_data_fetch_fails_loudly_and_goes_on(capsys, server):
    server.answers.clear()
    assert run("fetch", "letters", "nonsense") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "404 Not Found" in captured.err
    assert "no data set 'nonsense'" in captured.err


def test_data_fetch_into_a_cache_that_cannot_keep_it_is_a_failure(monkeypatch, capsys, tmp_path):
    with FileServer().running() as server:
        fresh_store(monkeypatch, tmp_path, f"{server.url}/source")
        server.serve_files()
        (tmp_path / "cache").write_text("a file where the folder should be")
        with pytest.warns(UserWarning, match="cannot be written"):
            assert run("fetch", "letters") == 1
    assert "Set COURSE_CACHE_DIR" in capsys.readouterr().err


def test_data_fetch_without_a_name_takes_the_two_that_need_no_asking(monkeypatch):
    asked = []
    monkeypatch.setattr(_cli_data, "_fetch_one", asked.append)
    assert run("fetch") == 0
    assert asked == ["cambridge", "cora"]


def test_data_fetch_of_openstreetmap_is_left_to_its_module(monkeypatch, capsys):
    monkeypatch.setattr(_osm, "fetch_cambridge_osm", lambda: Path("saved.graphml"))
    assert run("fetch", "cambridge-osm") == 0
    assert capsys.readouterr().out == "cambridge-osm: saved.graphml\n"


def test_data_verify_names_each_faulty_copy_and_its_mend(monkeypatch, capsys, tmp_path, cache, server):
    shared = put(tmp_path / "shared", {A: b"rotten", B: CONTENT[B]})
    monkeypatch.setenv("COURSE_DATA_DIR", str(shared))
    put(cache, {A: CONTENT[A], B: b"rotten"})
    assert run("verify") == 1
    captured = capsys.readouterr()
    assert [line.split() for line in captured.out.splitlines()] == [
        ["ok", str(cache / A)],
        ["ok", str(shared / B)],
    ]
    first, second = captured.err.splitlines()
    assert first.startswith(f"{shared / A}: wrong hash: 6 bytes")
    assert first.endswith(f"Replace it with the file from {server.url}/source/{A}.")
    assert second.startswith(f"{cache / B}: wrong hash: 6 bytes")
    assert second.endswith("Run `python -m course_utils data fetch letters`.")
    put(shared)
    put(cache)
    assert run("verify") == 0


def test_data_verify_minds_a_shared_folder_that_is_not_there(monkeypatch, capsys, tmp_path, cache):
    put(cache)
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "nowhere"))
    assert run("verify") == 1
    assert "which is no folder" in capsys.readouterr().err


def test_data_standins_writes_into_the_data_folder(monkeypatch, capsys):
    written = []
    for module in (_standin_streets, _standin_citations):
        monkeypatch.setattr(module, "write_standin", written.append)
    assert run("standins") == 0
    assert written == [_store.data_folder() / "standin"] * 2
    assert str(written[0]) in capsys.readouterr().out


def test_online_means_that_the_source_or_else_the_mirror_answers(monkeypatch, cache, server):
    assert _store.is_online()
    monkeypatch.setenv("COURSE_DATA_URL", "http://127.0.0.1:9/mirror")  # the discard port: nothing listens
    assert not _store.is_online()
    assert server.requests == []
    assert not cache.exists()


def test_a_file_below_a_plain_file_is_missing(tmp_path):
    (tmp_path / "file").write_text("")
    file = _store.registered("cora").files[0]
    assert _registry.find_fault(tmp_path / "file" / "cache" / file.key, file) == _store.MISSING


def test_a_hash_is_of_the_whole_file(tmp_path):
    body = os.urandom(3_000_000)
    path = tmp_path / "large"
    path.write_bytes(body)
    right = _registry.DataFile("large", "u", hashlib.sha256(body).hexdigest(), len(body))
    assert _registry.find_fault(path, right) == ""
    path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    assert _registry.find_fault(path, right).startswith("wrong hash: 3000000 bytes")
