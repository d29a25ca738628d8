"""Make the README's figures from the executed notebooks, small enough to keep in the repository.

Only figures of the real data are taken. A figure is chosen by its notebook and by how its description begins.
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
from pathlib import Path

import nbformat
from make_book import ROOT, caption_after, figures_of
from PIL import Image

PICTURES = {
    "clusters.png": ("04_node2vec_cambridge", "The map with nodes coloured and shaped by cluster"),
    "walks.png": ("04_node2vec_cambridge", "Two maps with ten coloured walks"),
    "papers.png": ("06_gcn_on_cora", "Four pictures of all papers"),
    "depth.png": ("07_how_many_layers", "Test accuracy against the number of layers"),
    "gradients.png": ("08_gradient_clinic", "Heat maps of gradient norms"),
    "tree.png": ("10_stuck_curvature", "The same tree twice"),
}
WIDTH = 960  # pixels
COLOURS = 128


def main() -> int:
    """Write the figures, or none of them if one cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--executed", type=Path, default=ROOT / "build/executed", help="executed notebooks")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/gallery", help="where the figures go")
    options = parser.parse_args()
    found = {
        name: shrink(find_figure(options.executed / f"{notebook}.ipynb", beginning))
        for name, (notebook, beginning) in PICTURES.items()
    }
    options.out.mkdir(parents=True, exist_ok=True)
    for name, png in found.items():
        (options.out / name).write_bytes(png)
        print(f"{options.out / name}: {len(png) / 1000:.0f} kB")
    return 0


def find_figure(path: Path, beginning: str) -> bytes:
    """Return the figure (PNG) of a notebook whose description begins so.

    Raises
    ------
    SystemExit
        If the notebook has used a stand-in, or has no such figure, or has not been executed.
    """
    if not path.is_file():
        sys.exit(f"{path} is not there. Run `make gallery`, which executes the notebooks first.")
    notebook = nbformat.read(path, as_version=4)
    cells = [(index, cell) for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    if any("StandInWarning" in output.get("text", "") for _, cell in cells for output in cell.outputs):
        sys.exit(
            f"{path} was executed on a stand-in, and the gallery needs the real data. Get them with "
            "`python -m course_utils data fetch`, delete this file and run `make gallery`."
        )
    for index, cell in cells:
        figures = figures_of(cell)
        if figures and caption_after(notebook, index).startswith(beginning):
            return base64.b64decode(figures[0].data["image/png"])
    sys.exit(
        f"{path} has no figure whose description begins with {beginning!r}. Mend PICTURES in {__file__}."
    )


def shrink(png: bytes) -> bytes:
    """Return a PNG of at most WIDTH pixels across, with few colours."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    small = io.BytesIO()
    # Colours far apart are kept apart, however few pixels have them: those of the thin lines and small dots.
    palette = image.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    palette.save(small, "PNG", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    raise SystemExit(main())
