"""What all tests share: the data of the course, and no windows."""

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
