"""The code that a document shows, put into a copy of the project and run there."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_SOURCES = ("agents", "commands", "config", "demo", "streams", "tables", "tests")


class Shown(NamedTuple):
    """A piece of code, and the file that the line above it names."""

    path: str
    code: str


def shown_in(document: str) -> list[Shown]:
    """Return a document's Python code in order; a block may hold several files, each under its path."""
    blocks = re.findall(r"^```python\n(# \S+\n.*?)^```$", document, re.MULTILINE | re.DOTALL)
    pieces = [re.split(r"^# (\S+\.py)\n", block, flags=re.MULTILINE)[1:] for block in blocks]
    return [
        Shown(path, code.strip("\n") + "\n")
        for piece in pieces
        for path, code in zip(piece[::2], piece[1::2], strict=True)
    ]


def added(text: str, code: str) -> str:
    """Return a file's text with shown code in it.

    Imports go on top, rows among the flows, what has the name of something there takes its place,
    and the rest goes to the end.
    """
    rows = [line for line in code.splitlines() if line.startswith("    Flow(")]
    lines = [line for line in code.splitlines() if line not in rows]
    statements = ast.parse("\n".join(lines)).body
    for statement in reversed(statements):
        block = slice(statement.lineno - 1, statement.end_lineno)
        if isinstance(statement, ast.Import | ast.ImportFrom):
            first = re.search(r"(?m)^(from |import )", text)
            at = first.start() if first else 0
            text = "\n".join([text[:at] + lines[block][0], *lines[block][1:], text[at:]])
            del lines[block]
        elif (old := _called(text, _name(statement))) is not None:
            kept = text.splitlines()
            kept[old.lineno - 1 : old.end_lineno] = lines[block]
            text = "\n".join([*kept, ""])
            del lines[block]
    for row in rows:
        *_, flow, _ = re.split(r'Flow\(\S+ ("\w+",)', row)
        text = re.sub(rf"(?m)^    Flow\(\S+ {flow}.*\n", "", text)
        text = text.replace("\n)\n# fmt: on", f"\n{row}\n)\n# fmt: on", 1)
    rest = "\n".join(lines).strip("\n")
    return f"{text}\n\n{rest}\n" if rest else text


def copy_with(shown: Iterable[Shown], folder: Path) -> Path:
    """Return a copy of the project, made at `folder`, that has the code in its files."""
    for name in _SOURCES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for path, code in shown:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        there = file.read_text(encoding="utf-8") if file.exists() else None
        file.write_text(code if there is None else added(there, code), encoding="utf-8")
    return folder


def new_files(shown: Iterable[Shown]) -> list[str]:
    """Return the files that are not in the project."""
    return sorted({path for path, _ in shown if not (ROOT / path).exists()})


def python(copy: Path, *args: str) -> str:
    """Run Python in the copy; return what it said."""
    done = subprocess.run(
        [sys.executable, *args], cwd=copy, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _called(text: str, name: str | None) -> ast.stmt | None:
    """Return the statement of a text that gives something this name."""
    return next((s for s in ast.parse(text).body if name is not None and _name(s) == name), None)


def _name(statement: ast.stmt) -> str | None:
    match statement:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            return name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    return None
