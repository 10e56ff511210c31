"""Links of a page to the source: which name they give, and whether the module defines it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

SYMBOL_LINK = re.compile(r"\[`([^`]+)`\]\(([^)#\s]+\.py)\)")  # [`name`](path.py)


def symbols(file: Path) -> dict[str, ast.stmt]:
    """Each class, function and constant of a module, and `Class.member`, with the statement that defines it."""
    defined: dict[str, ast.stmt] = {}

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            names: list[str] = []
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    names = [node.name]
                case ast.Assign():
                    names = [n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)]
                case ast.AnnAssign(target=ast.Name(id=name)):
                    names = [name]
            for name in names:
                defined.setdefault(prefix + name, node)
            if isinstance(node, ast.ClassDef):
                collect(node.body, f"{node.name}.")

    collect(ast.parse(file.read_text()).body, "")
    return defined


def symbol_of(name: str, path: str) -> str:
    """What a link [`name`](path.py) names in the module: `module.thing` and `thing()` are `thing`."""
    return name.split("(")[0].removeprefix(f"{Path(path).stem}.")


def missing_symbols(page: Path, text: str) -> list[str]:
    """Links [`name`](path.py) to a file that does not define the name. `file.py`, a path and `--option` are no names."""
    wrong = []
    for name, path in SYMBOL_LINK.findall(text):
        target = (page.parent / path).resolve()
        code = target.read_text() if target.exists() else ""
        if name.endswith((".py", "/")):
            present = path.endswith(name) or name.endswith("/")
        elif name.startswith("--"):
            present = name in code or f"{name.removeprefix('--').replace('-', '_')}:" in code
        else:
            present = bool(code) and symbol_of(name, path) in symbols(target)
        if not present:
            wrong.append(f"{page.name}: {path} does not define {name}")
    return wrong
