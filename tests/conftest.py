"""What all tests share: the data of the course, and no windows."""

import os
import shutil
import warnings

import matplotlib as mpl
import pytest

mpl.use("Agg")


@pytest.fixture(scope="session")
def roads():
    """Return Cambridge's streets: the real ones where COURSE_DATA_DIR has them, else the stand-in."""
    from course_utils.datasets import StandInWarning, load_cambridge

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StandInWarning)
        return load_cambridge()


@pytest.fixture(scope="session")
def standin_roads():
    """Return the made-up city."""
    from course_utils.datasets import load_cambridge

    return load_cambridge(source="standin")


@pytest.fixture(scope="module")
def browser():
    """Return a headless Chromium that reaches loopback only.

    It ends with the module: while Playwright's event loop runs, no notebook can be executed in this process.
    """
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: install it, or name it in the variable CHROMIUM")
    switches = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    ]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium, args=switches)
        yield chromium
        chromium.close()
