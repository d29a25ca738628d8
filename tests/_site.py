"""What must hold for every page of a web site: its links lead somewhere, it loads, it can be read by anybody."""

import threading
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from axe_playwright_python.sync_playwright import Axe

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
GRAVE = {"serious", "critical"}
MATHS_DONE = "() => !window.MathJax || window.MathJax.startup.promise.then(() => true)"
SETTLED = (
    500  # Milliseconds. The theme's colours fade in, and what scrolls is made reachable by keyboard, in 300.
)


class Page(HTMLParser):
    """The identifiers of a page, the addresses it names, and those it loads by itself."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.targets, self.loaded = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids.add(values.get("id"))
        address = values.get("src") or values.get("href")
        if address:
            self.targets.append(address)
            if tag != "a":
                self.loaded.append(address)


def broken_links(site):
    """List what a page names or loads and the site does not have, and what it loads from elsewhere."""
    paths = (path for path in site.rglob("*.html") if "_static" not in path.parts)
    pages = {path.resolve(): Page(path) for path in paths}
    faults = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        faults += [f"{name} loads {address}" for address in page.loaded if urlsplit(address).netloc]
        for address in page.targets:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target in pages and anchor not in pages[target].ids):
                faults.append(f"{name} leads to {address}")
    return faults


@contextmanager
def served(folder):
    """Serve a folder on loopback and yield its address."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Keep the tests' output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def faults_in_browser(browser, url, name):
    """Open a page on a phone; list what does not load, what goes wrong, and whether it is too wide."""
    faults = []
    with opened(browser, f"{url}/{name}", PHONE, faults) as page:
        if (width := page.evaluate("document.documentElement.scrollWidth")) > PHONE["width"]:
            faults.append(f"{width} pixels wide on a phone")
        raw, done, wrong = (page.locator(of).count() for of in (".math", "mjx-container", "mjx-merror"))
        if raw != done or wrong:
            faults.append(f"{done} of {raw} formulas set, {wrong} with an error")
    return [f"{name}: {fault}" for fault in faults]


def barriers(browser, url, name):
    """Open a page at a desk; list what keeps some people from reading it, in light and in dark."""
    faults = []
    with opened(browser, f"{url}/{name}", DESKTOP, faults) as page:
        faults += violations(page, {})
        page.emulate_media(color_scheme="dark")
        page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
        page.wait_for_timeout(SETTLED)
        faults += [f"in dark: {fault}" for fault in violations(page, {"runOnly": ["color-contrast"]})]
    return [f"{name}: {fault}" for fault in faults]


@contextmanager
def opened(browser, url, size, faults):
    """Open a page and add to `faults` whatever fails while it loads and is looked at."""
    page = browser.new_page(viewport=size, color_scheme="light")
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(f"no answer from {request.url}"))
    page.on("response", lambda answer: answer.ok or faults.append(f"{answer.status} {answer.url}"))
    page.on("console", lambda line: line.type in {"error", "warning"} and faults.append(line.text))
    page.goto(url, wait_until="load")
    page.wait_for_function(MATHS_DONE)
    page.wait_for_timeout(SETTLED)
    yield page
    page.close()


def violations(page, options):
    """Run axe-core, and list what it calls serious or critical."""
    options = {"resultTypes": ["violations"], "preload": False, **options}
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{violation['id']} in {node['html'][:150]} ({node['target'][-1]})"
        for violation in found
        if violation["impact"] in GRAVE
        for node in violation["nodes"][:3]
    ]
