"""What a student does in JupyterLab, by mouse and keyboard: run, write, save, look."""

import io
import re

import nbformat
import numpy as np
from PIL import Image

# Milliseconds after which something hangs, on a machine that has much other work: one step of a page; all cells of a
# notebook, which computes for one to three minutes where it has two cores for itself.
STEP_MS = 90_000
NOTEBOOK_MS = 1_500_000


class OpenNotebook:
    """A notebook in JupyterLab: what the page shows, and the file that it is saved to."""

    def __init__(self, page, path):
        self.page = page
        self.path = path
        self.panel = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
        self.panel.locator(".jp-Cell").first.wait_for(timeout=STEP_MS)
        self.wait_until_idle()

    def wait_until_idle(self, timeout=STEP_MS):
        idle = self.panel.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
        idle.wait_for(state="attached", timeout=timeout)

    def run_all_cells(self):
        """Choose it in the menu, wait for the last cell and return the saved file."""
        self.choose("Run", "Run All Cells")
        while True:
            self.page.wait_for_timeout(1000)
            self.wait_until_idle(NOTEBOOK_MS)
            saved = self.save()
            code = [cell for cell in saved.cells if cell.cell_type == "code"]
            outputs = [output for cell in code for output in cell.outputs]
            failed = next((output for output in outputs if output.output_type == "error"), None)
            assert failed is None, "\n".join(failed.traceback)
            if all(cell.execution_count for cell in code):
                return saved

    def choose(self, menu, entry):
        self.page.get_by_role("menuitem", name=menu, exact=True).click()
        self.page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{entry}$")).click()

    def save(self):
        self.choose("File", "Save Notebook")
        tab = self.page.locator(".lm-TabBar-tab.lm-mod-current", has_text=self.path.name)
        tab.and_(self.page.locator(":not(.jp-mod-dirty)")).wait_for(timeout=STEP_MS)
        return nbformat.read(self.path, as_version=4)

    def cell(self, text):
        """Return the first code cell with `text` in it, scrolled to."""
        cell = self.panel.locator(".jp-CodeCell", has=self.page.locator(".jp-Editor", has_text=text)).first
        cell.wait_for(state="attached", timeout=STEP_MS)
        cell.scroll_into_view_if_needed()
        return cell

    def write(self, text, source):
        """Replace what stands in the code cell with `text` in it, and run it and the next cell, as a student does."""
        self.cell(text).locator(".cm-content").click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(source)
        for _ in range(2):
            self.page.keyboard.press("Shift+Enter")

    def wait_for(self, text, answer):
        """Wait until the page shows `answer` below the code cell with `text` in it, and return all it shows there."""
        output = self.cell(text).locator(".jp-OutputArea-output", has_text=answer).first
        output.wait_for(timeout=STEP_MS)
        return output.inner_text()

    def picture(self, text):
        """Return what the page shows as the picture below a code cell, as an array of pixels."""
        image = self.cell(text).locator(".jp-OutputArea-output img").first
        image.scroll_into_view_if_needed(timeout=STEP_MS)
        assert image.evaluate("e => e.complete && e.naturalWidth > 300")
        return np.asarray(Image.open(io.BytesIO(image.screenshot())).convert("RGB"))
