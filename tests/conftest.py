"""What all tests share: no network but loopback, no cache of the user's, and the data of the course."""

import os
import tempfile
import warnings

import matplotlib as mpl
import pytest

# pytest-socket closes the network to this process. Kernels and other child processes are sent to a proxy that is
# not there; loopback servers of the tests are reached directly.
for variable in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
    os.environ[variable] = "http://127.0.0.1:9"
for variable in ("NO_PROXY", "no_proxy"):
    os.environ[variable] = "127.0.0.1,localhost,::1"

mpl.use("Agg")


@pytest.fixture(scope="session", autouse=True)
def _empty_cache():
    """Whatever a user has cached, the tests see COURSE_DATA_DIR (if set) or the stand-ins."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COURSE_CACHE_DIR"] = folder
        yield


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
