"""Source text of solutions, and the stubs made of it."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def solution_source(reference: Callable[..., Any]) -> str:
    """Give the source of a function or class, with the imports it needs."""
    return _with_imports(inspect.getsource(reference), reference)


def stub_source(reference: Callable[..., Any]) -> str:
    """Give the same with the bodies of the function, or of the class's methods, left to the student."""
    source = inspect.getsource(reference)
    lines = source.splitlines()
    (definition,) = ast.parse(source).body
    members = definition.body if isinstance(definition, ast.ClassDef) else [definition]
    for function in reversed([member for member in members if isinstance(member, ast.FunctionDef)]):
        first = function.body[0]
        has_docstring = ast.get_docstring(function) is not None
        start = (first.end_lineno or first.lineno) if has_docstring else first.lineno - 1
        body = ["super().__init__()", "# Your layers."] if function.name == "__init__" else ["return ..."]
        indent = " " * (function.col_offset + 4)
        lines[start : function.end_lineno] = [indent + line for line in body]
    return _with_imports("\n".join(lines), reference)


def value_source(reference: Callable[[], Any]) -> str:
    """Give the body of a function without arguments as statements that end in `name = value`."""
    source = inspect.getsource(reference)
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    last = function.body[-1]
    lines = source.splitlines(keepends=True)
    lines[last.lineno - 1] = lines[last.lineno - 1].replace("return", f"{reference.__name__} =", 1)
    body = "".join(lines[function.body[0].end_lineno : function.end_lineno])  # the docstring stays behind
    return _with_imports(textwrap.dedent(body), reference, blank_lines=1)


def _with_imports(code: str, reference: Callable[..., Any], *, blank_lines: int = 2) -> str:
    """Put before the code those imports of its module that it uses, in the usual three blocks."""
    used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    sections: tuple[list[str], list[str], list[str]] = ([], [], [])
    for node in ast.walk(ast.parse(inspect.getsource(sys.modules[reference.__module__]))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            node.names = [alias for alias in node.names if (alias.asname or alias.name.split(".")[0]) in used]
            if node.names:
                line = ast.unparse(node)  # "import x.y as z" or "from x.y import z"
                package = line.split()[1].split(".")[0]
                sections[_section(package)].append(line)
    imports = "\n\n".join("\n".join(section) for section in sections if section)
    return (imports + "\n" * (blank_lines + 1) + code if imports else code).rstrip()


def _section(package: str) -> int:
    """Say in which block of imports a package stands."""
    if package in sys.stdlib_module_names:
        return 0
    return 2 if package == __name__.split(".")[0] else 1
