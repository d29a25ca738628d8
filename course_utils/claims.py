"""A sentence of the prose that is computed and checked where it stands."""

from __future__ import annotations

from course_utils import _store


class ClaimError(AssertionError):
    """A claim of the course does not hold in this run."""


def claim(text: str, holds: object, shown: str = "", *, real_only: bool = False) -> None:
    """Check a sentence of the course and print it.

    Parameters
    ----------
    text
        The sentence, as a reader would say it.
    holds
        Whether it does: a bool, or anything with one truth value (a zero-dimensional tensor, say).
    shown
        The numbers behind it, printed after it.
    real_only
        The sentence is about the real data. With a stand-in loaded it is printed, and not checked.

    Raises
    ------
    ClaimError
        If the sentence does not hold.

    Examples
    --------
    >>> claim("two and two make four", 2 + 2 == 4, "2 + 2 = 4")
    ✓ two and two make four [2 + 2 = 4]
    """
    numbers = f" [{shown}]" if shown else ""
    standins = _store.standins_in_use()
    if real_only and standins:
        print(
            f"- {text}{numbers}: said of the real data, not checked on the stand-in ({', '.join(standins)})"
        )
        return
    if not bool(holds):
        msg = f"This does not hold: {text}{numbers}"
        raise ClaimError(msg)
    print(f"✓ {text}{numbers}")
