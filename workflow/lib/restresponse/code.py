"""A digest of a module and of every module of this package that it imports, so that an edit reruns what depends on it."""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path

_ROOT = Path(__file__).parent
_PACKAGE = _ROOT.name


@functools.cache
def code_of(module: str) -> str:
    """Digest of the code that `module` (`"group_ica"`, `"group_ica.fastica"`) runs inside this package.

    A folder stands for all the modules in it. Imports inside functions count. Raises ``ModuleNotFoundError`` for a name
    that is not in the package.
    """
    pending, seen = list(_files_of(module)), set()
    if not pending:
        raise ModuleNotFoundError(f"no module {module!r} in {_PACKAGE}; code_of takes a stage's name, e.g. 'group_ica'")
    while pending:
        path = pending.pop()
        if path not in seen:
            seen.add(path)
            pending += [imported for imported in _imports_of(path) if imported not in seen]
    digest = hashlib.sha256()
    for path in sorted(seen):
        digest.update(str(path.relative_to(_ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _files_of(module: str) -> tuple[Path, ...]:
    base = _ROOT.joinpath(*module.split("."))
    if base.is_dir():
        return tuple(path for path in base.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return (base.with_suffix(".py"),) if base.with_suffix(".py").is_file() else ()


@functools.cache
def _imports_of(path: Path) -> tuple[Path, ...]:
    if path.suffix != ".py":
        return ()
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    inside = {name.removeprefix(f"{_PACKAGE}.") for name in names if name.startswith(f"{_PACKAGE}.")}
    found = {file for name in inside if not (_ROOT.joinpath(*name.split("."))).is_dir() for file in _files_of(name)}
    found |= {init for name in inside if (init := _ROOT.joinpath(*name.split("."), "__init__.py")).is_file()}
    return tuple(sorted(found | ({_ROOT / "__init__.py"} if inside else set())))
