"""The cells of a notebook that a later cell needs, by the names that it reads."""

import dis


def slice_of(cells, last):
    """Return cells[last] and those before it that define the names it reads, in order, without the rest.

    What a cell changes in an object of another cell is not seen: a training loop is left out, a model that it
    trains is not. So pictures come out in seconds, of untrained vectors.
    """
    wanted, kept = set(), []
    for cell in reversed(cells[: last + 1]):
        reads, writes = names(compile(cell.source, "cell", "exec"))
        if cell is cells[last] or writes & wanted:
            wanted = (wanted - writes) | reads
            kept.insert(0, cell)
    return kept


def names(code):
    """Return the global names that code reads, its functions included, and those that it defines."""
    reads, later, writes = set(), set(), set()
    for step in dis.get_instructions(code):
        if step.opname in {"LOAD_NAME", "LOAD_GLOBAL"} and step.argval not in writes:
            reads.add(step.argval)
        elif step.opname == "STORE_NAME":
            writes.add(step.argval)
        elif hasattr(step.argval, "co_code"):
            later |= names(step.argval)[0]  # A function looks its names up when it is called.
    return reads | (later - writes), writes
