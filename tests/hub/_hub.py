"""A JupyterHub that is really started: the configuration of deploy/, on loopback, in a temporary folder."""

import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode

import psutil
import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy" / "jupyterhub"
PROXY = "configurable-http-proxy"
START_SECONDS = 60


class Hub:
    """A running hub: its address, its students' folders, its shared data, and the course's repository."""

    def __init__(self, folder, proxy):
        self.folder = folder
        self.data = _shared_data(folder / "data")
        self.before = snapshot(self.data)
        self.repository = _repository(folder / "course")
        self.password = secrets.token_urlsafe()
        ports = _free_ports(3)
        self.url = f"http://127.0.0.1:{ports[0]}"
        self.log = folder / "hub.log"
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COURSE_DATA_DIR": str(self.data),
            "HUB_PRODUCTION_CONFIG": str(DEPLOY / "jupyterhub_config.py"),
            "HUB_PASSWORD": self.password,
            "HUB_PORTS": " ".join(map(str, ports)),
            "HUB_PROXY": proxy,
        }
        config = Path(__file__).with_name("hub_config.py")
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "--config", config],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_up(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if requests.get(f"{self.url}/hub/health", timeout=5).ok:
                    return
            except requests.ConnectionError:
                time.sleep(0.2)
        pytest.fail(f"The hub does not start:\n{self.log.read_text(encoding='utf-8')}")

    def stop(self):
        """End the hub, and with it the proxy, the students' servers and their kernels; none may stay behind."""
        if self.process.poll() is not None:
            return  # it never came up, and wait_until_up has said why
        family = [
            psutil.Process(self.process.pid),
            *psutil.Process(self.process.pid).children(recursive=True),
        ]
        self.process.terminate()
        _, alive = psutil.wait_procs(family, timeout=60)
        for process in alive:
            process.kill()
        self.process.wait(timeout=5)
        assert not alive, f"still running a minute after the hub was told to end: {alive}"

    def log_in(self, page, student, *, password=None):
        page.goto(f"{self.url}/hub/login")
        self.fill_in(page, student, password=password)

    def fill_in(self, page, student, *, password=None):
        page.get_by_label("Username").fill(student)
        page.get_by_label("Password").fill(password or self.password)
        page.get_by_role("button", name="Sign in").click()

    def home(self, student):
        return self.folder / "home" / student

    def link(self, notebook):
        """Return the nbgitpuller link that brings the course and opens a notebook, as the guide writes it."""
        opened = f"lab/tree/{self.repository.name}/notebooks/{notebook}.ipynb"
        query = {"repo": self.repository.as_uri(), "branch": "main", "urlpath": opened}
        return f"{self.url}/hub/user-redirect/git-pull?{urlencode(query)}"


def find_proxy():
    """Return the path of the proxy: a variable, the search path, or what `npm ci` installs; "" if it is nowhere."""
    installed = DEPLOY / "node_modules" / ".bin" / PROXY
    places = [os.environ.get("CONFIGURABLE_HTTP_PROXY"), shutil.which(PROXY), installed]
    return next((str(place) for place in places if place and Path(place).is_file()), "")


def snapshot(folder):
    """Return path, hash and time of each file, and the time of each folder."""
    paths = sorted([folder, *folder.rglob("*")])
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in paths]
    return [(path, sha256, path.stat().st_mtime_ns) for path, sha256 in zip(paths, hashes, strict=True)]


def _shared_data(folder):
    """Copy the real data if there are any, else leave the folder empty: the course takes its stand-ins. Read-only."""
    real = os.environ.get("COURSE_DATA_DIR")
    if real:
        shutil.copytree(real, folder)
    else:
        folder.mkdir()
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return folder


def _repository(folder):
    """Make a repository of the notebooks as they are in this working tree."""
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    author = ["-c", "user.name=course", "-c", "user.email=course@localhost"]
    for command in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "."],
        ["commit", "--quiet", "-m", "1"],
    ):
        subprocess.run(["git", *author, *command], cwd=folder, check=True)
    return folder


def _free_ports(number):
    """Find ports that are free now; the sockets are held until all are found."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports
