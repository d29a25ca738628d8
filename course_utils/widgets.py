"""A picture that follows sliders."""

from __future__ import annotations

import inspect
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from IPython.display import Image


def explore(
    draw: Callable[..., str], *, figsize: tuple[float, float] = (6.5, 4.5), **sliders: Sequence[float]
) -> None:
    """Show a picture under sliders, and draw it anew when one of them moves.

    A slider answers to the mouse and, once in focus, to the arrow keys. Picture and sentence are ordinary outputs of
    the cell. So whoever reads it without a kernel, in a page or on paper, sees them for the values that `draw`
    begins with, and no state of the sliders need be saved.

    Parameters
    ----------
    draw
        Is called with an empty figure and, by name, one value a slider. It draws, and returns a sentence on what is
        to be seen, with its numbers; that stands below the picture. The defaults of its parameters are where the
        sliders begin.
    figsize
        Width and height of the figure in inches.
    **sliders
        The values that each parameter of `draw` can take, in the order of its slider.

    Raises
    ------
    ValueError
        If a parameter of `draw` has a default that is not on its slider.
    """
    import ipywidgets
    from IPython.display import display

    controls: dict[str, Any] = {}
    for name, values in sliders.items():
        begin = inspect.signature(draw).parameters[name].default
        if begin not in values:
            msg = f"Where does the slider {name} begin? Give {name} a default in draw, out of {list(values)}."
            raise ValueError(msg)
        controls[name] = ipywidgets.SelectionSlider(
            options=[(f"{value:g}", value) for value in values],
            value=begin,
            description=name.replace("_", " "),
            tooltip="Move it with the mouse or the arrow keys.",
            style={"description_width": "initial"},
            layout={"width": "26em"},
        )

    def render() -> tuple[Image, dict[str, str]]:
        return _render(draw, figsize, {name: control.value for name, control in controls.items()})

    image, words = render()
    box = ipywidgets.VBox(list(controls.values()))
    # The text is for pages without a kernel. They would print what Python calls the box.
    names = ", ".join(control.description for control in controls.values())
    note = {"text/plain": f"Sliders that move while the notebook runs: {names}."}
    display(box._repr_mimebundle_() | note, raw=True)  # type: ignore[no-untyped-call]  # IPython is not annotated
    picture = display(image, display_id=True)  # type: ignore[no-untyped-call]  # as above
    caption = display(words, raw=True, display_id=True)  # type: ignore[no-untyped-call]  # as above

    def follow(_: object) -> None:
        try:
            image, words = render()
        except Exception as error:
            # What a widget's callback raises goes to a log that few know of. Let the reader see it here.
            caption.update({"text/plain": f"{type(error).__name__}: {error}"}, raw=True)
            raise
        picture.update(image)
        caption.update(words, raw=True)

    for control in controls.values():
        control.observe(follow, names="value")


def _render(
    draw: Callable[..., str], figsize: tuple[float, float], values: dict[str, float]
) -> tuple[Image, dict[str, str]]:
    from IPython.display import Image
    from matplotlib.figure import Figure

    # Not a figure of pyplot: that would keep it for ever, and show it in the next cell that runs.
    figure, png = Figure(figsize=figsize), io.BytesIO()
    sentence = draw(figure, **values)
    figure.savefig(png, format="png")
    # The sentence also describes the picture to those who do not see it, in Jupyter and in the book.
    image = Image(png.getvalue(), alt=sentence)  # type: ignore[no-untyped-call]  # IPython is not annotated
    return image, {"text/plain": sentence}
