"""The cells of a notebook that some of its cells need, by the names that they read."""

import dis


def slice_of(cells, targets):
    """Return the targets, and of the cells before each those that define a name it reads, and so on.

    A cell that only changes what another one defines is not seen: a model is kept, and the loop that trains it is
    not. So pictures come in seconds, if of untrained vectors.
    """
    wanted, kept = set(), []
    for cell in reversed(cells):
        reads, writes = names(compile(cell.source, "cell", "exec"))
        if cell in targets or writes & wanted:
            wanted = (wanted - writes) | reads
            kept.insert(0, cell)
    return kept


def names(code):
    """Return the global names that code and its functions read before it defines them, and those it defines."""
    reads, later, writes = set(), set(), set()
    for step in dis.get_instructions(code):
        if step.opname in {"LOAD_NAME", "LOAD_GLOBAL"} and step.argval not in writes:
            reads.add(step.argval)
        elif step.opname == "STORE_NAME":
            writes.add(step.argval)
        elif hasattr(step.argval, "co_code"):
            later |= names(step.argval)[0]  # A function looks its names up when it is called.
    return reads | (later - writes), writes
