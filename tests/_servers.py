"""Loopback servers that misbehave on demand, and a small registry whose source they are."""

import hashlib
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from course_utils import _download, _folders, _store

A = "cora/letters.a"
B = "cora/letters.b"
STANDIN = "cora/letters.standin"
CONTENT = {A: b"abcdefgh" * 500, B: b"zyxwvuts" * 700}
WEB_PAGE = b"<!DOCTYPE html>\n<html><body>Please log in.</body></html>"


@dataclass
class Answer:
    """One answer: `claimed` is the Content-Length sent (None: none), `drip` the seconds between bytes."""

    body: bytes = b""
    status: int = 200
    claimed: int | None = -1
    pause: float = 0.0
    drip: float = 0.0


class FileServer:
    """Answers each path from a list whose last entry repeats; records what was asked."""

    def __init__(self):
        self.answers = {}
        self.requests = []
        self.headers = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.send_response(200)
                self.end_headers()

            def do_GET(self):
                server.requests.append(self.path)
                server.headers.append(dict(self.headers))
                queue = server.answers.get(self.path, [Answer(b"no such file", status=404)])
                answer = queue.pop(0) if len(queue) > 1 else queue[0]
                with suppress(ConnectionError):  # the client may give up first
                    self.reply(answer)

            def reply(self, answer):
                time.sleep(answer.pause)
                self.send_response(answer.status)
                if answer.claimed is not None:
                    length = len(answer.body) if answer.claimed == -1 else answer.claimed
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                if not answer.drip:
                    self.wfile.write(answer.body)
                for byte in answer.body if answer.drip else b"":
                    self.wfile.write(bytes([byte]))
                    time.sleep(answer.drip)

            def log_message(self, *args):
                """Keep the tests' output clean."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def serve_files(self, prefix="/source"):
        """Answer every file of the small registry rightly."""
        for key, body in CONTENT.items():
            self.answers[f"{prefix}/{key}"] = [Answer(body)]

    @contextmanager
    def running(self):
        thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()
            thread.join()


def write_registry(folder, source):
    """Write a data folder whose registry holds "letters" (two files) and "archive" (one file, no hash)."""
    about = 'title = "T"\nlicence = "L"\nattribution = "A"\ncitation = "C"\nhomepage = "H"\n'
    lines = [f'[letters]\n{about}url = "{source}"\nstandin = ["{STANDIN}"]']
    for key, body in CONTENT.items():
        sha256 = hashlib.sha256(body).hexdigest()
        lines.append(f'[letters.files."{key}"]\nsource = "{key}"\nsha256 = "{sha256}"\nsize = {len(body)}')
    lines.append(f'[archive]\n{about}url = "{source}"\nstandin = []')
    lines.append('[archive.files."archive/x.npz"]\nsource = "x.npz"\nsha256 = ""\nsize = 0')
    standin = folder / "standin" / STANDIN
    standin.parent.mkdir(parents=True)
    standin.write_text("made up", encoding="utf-8")
    (folder / "registry.toml").write_text("\n".join(lines), encoding="utf-8")


def fresh_store(monkeypatch, tmp_path, source):
    """Give the store a registry of its own, an empty cache, no variables and no memory; return its cache."""
    write_registry(tmp_path / "data", source)
    for module in (_store, _folders):
        monkeypatch.setattr(module, "data_folder", lambda: tmp_path / "data")
    monkeypatch.setattr(_download, "_answered", {})
    monkeypatch.setattr(_store, "_in_use", {})
    for name in ("COURSE_DATA_DIR", "COURSE_DATA_URL", "COURSE_STRICT_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COURSE_CACHE_DIR", str(tmp_path / "cache"))
    _folders._temporary_cache.cache_clear()
    return tmp_path / "cache"


def put(folder, files=CONTENT):
    """Write files by key below a folder."""
    for key, body in files.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(body)
    return folder
