"""A student in a real JupyterHub, in a real browser: logs in, gets the course by a link, runs it, is answered."""

import os

import numpy as np
import pytest
from _hub import Hub, find_proxy, snapshot
from _lab import STEP_MS, OpenNotebook

pytestmark = pytest.mark.timeout(1700)  # seconds; see _lab.py

STUDENT, NEIGHBOUR = "student1", "student2"
START = "00_start_here"
CITY = "04_node2vec_cambridge"
LAYERS = "07_how_many_layers"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    proxy = find_proxy()
    if not proxy:
        pytest.skip(
            "needs configurable-http-proxy: run `npm ci` in deploy/jupyterhub, or name the program in the "
            "variable CONFIGURABLE_HTTP_PROXY"
        )
    hub = Hub(tmp_path_factory.mktemp("hub"), proxy)
    try:
        hub.wait_until_up()
        yield hub
    finally:
        hub.stop()


@pytest.fixture(scope="module")
def page(hub, browser):
    """Return the first student's page: the link to the course was followed, and asked for name and password."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(STEP_MS)
    news = page.get_by_text("Would you like to get notified about official Jupyter news?")
    page.add_locator_handler(news, lambda: page.get_by_role("button", name="No", exact=True).click())
    page.goto(hub.link(START))
    hub.fill_in(page, STUDENT)
    page.wait_for_url(f"**/user/{STUDENT}/lab/tree/course/notebooks/{START}.ipynb", timeout=2 * STEP_MS)
    yield page
    context.close()


@pytest.fixture
def neighbour(hub, browser):
    """Return the page of another student, who has logged in and has a server."""
    context = browser.new_context()
    page = context.new_page()
    hub.log_in(page, NEIGHBOUR)
    page.wait_for_url(f"**/user/{NEIGHBOUR}/lab**", timeout=2 * STEP_MS)
    yield page
    context.close()


def open_notebook(hub, page, name):
    page.goto(f"{hub.url}/user/{STUDENT}/lab/tree/course/notebooks/{name}.ipynb?reset")
    return OpenNotebook(page, hub.home(STUDENT) / "course" / "notebooks" / f"{name}.ipynb")


def printed(notebook):
    """Return all that the cells of a saved notebook have printed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def assert_drawn(pixels, *, colours):
    """Check that something is drawn: the paper does not fill the picture, and there are that many colours."""
    found, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    assert counts.max() < 0.97 * counts.sum()
    assert len(found) > colours
    assert pixels.std() > 10


def test_a_wrong_password_and_an_unknown_student_are_refused(hub, browser):
    context = browser.new_context()
    page = context.new_page()
    for student, password in ((STUDENT, "guess"), ("stranger", None)):
        hub.log_in(page, student, password=password)
        page.get_by_text("Invalid username or password").wait_for()
        assert page.goto(f"{hub.url}/hub/home").url.startswith(f"{hub.url}/hub/login")
    context.close()


def test_the_link_brings_the_course_and_the_exercise_answers_back(hub, page):
    notebook = open_notebook(hub, page, START)
    saved = notebook.run_all_cells()

    data = "real, from the shared folder" if os.environ.get("COURSE_DATA_DIR") else "not here yet"
    assert f"Data: cambridge, cora: {data}" in printed(saved)
    assert_drawn(notebook.picture("plot_roads"), colours=100)

    cell, check = "def count_links", "exercises.count_links.check"
    stub = next(cell.source for cell in saved.cells if "exercise" in cell.metadata.get("tags", []))
    notebook.wait_for(check, "not attempted: count_links")
    notebook.write(cell, stub.replace("return ...", "return edge_index.shape[1]"))
    notebook.wait_for(check, "not yet: count_links")
    notebook.write(cell, stub.replace("return ...", "return edge_index.shape[1] // 2"))
    notebook.wait_for(check, "correct: count_links")
    assert snapshot(hub.data) == hub.before


def test_the_streets_run_to_the_end_and_the_maps_are_drawn(hub, page):
    notebook = open_notebook(hub, page, CITY)
    saved = notebook.run_all_cells()

    assert printed(saved).count("✓") > 20
    assert_drawn(notebook.picture("plot_roads(roads, groups="), colours=100)
    assert snapshot(hub.data) == hub.before


def test_the_depths_run_to_the_end_and_the_curves_are_drawn(hub, page):
    notebook = open_notebook(hub, page, LAYERS)
    saved = notebook.run_all_cells()

    assert printed(saved).count("✓") > 20
    assert_drawn(notebook.picture('plot_bands(trials, "num_layers", "accuracy")'), colours=50)
    assert snapshot(hub.data) == hub.before


def test_a_student_cannot_read_another_students_files(hub, page, neighbour):
    theirs = f"{hub.url}/user/{STUDENT}"
    file = f"course/notebooks/{START}.ipynb"
    paths = ["lab", "api/contents", f"api/contents/{file}", f"files/{file}", "api/kernels"]
    owner = {path: page.request.get(f"{theirs}/{path}").status for path in paths}
    other = {path: neighbour.request.get(f"{theirs}/{path}").status for path in paths}
    assert set(owner.values()) == {200}
    assert set(other.values()) <= {403, 404}, other
