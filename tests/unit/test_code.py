"""An edit of a module changes the digest of whatever runs it, and of nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from restresponse import code


@pytest.fixture
def package(tmp_path: Path, monkeypatch) -> Path:
    """A package `restresponse` of our own: a -> b.deep -> c; d alone."""
    files = {
        "__init__.py": "",
        "a.py": "def f():\n    from restresponse.b.deep import g\n    return g()\n",
        "b/__init__.py": "",
        "b/deep.py": "import numpy\nfrom restresponse import c\n",
        "b/table.tsv": "name\n",
        "c.py": "x = 1\n",
        "d.py": "import restresponse.c as other\n",
        "e.py": "from restresponse.b import deep\n",
        "loop.py": "from restresponse import pool\n",
        "pool.py": "from restresponse import loop\n",
    }
    for name, text in files.items():
        path = tmp_path / "restresponse" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(code, "_ROOT", tmp_path / "restresponse")
    forget()
    yield tmp_path / "restresponse"
    forget()


def forget() -> None:
    code.code_of.cache_clear()
    code._imports_of.cache_clear()


def changed_by(package: Path, edited: str) -> set[str]:
    names = ["a", "b", "b.deep", "c", "d", "e", "loop", "pool"]
    before = {name: code.code_of(name) for name in names}
    (package / edited).write_text((package / edited).read_text() + "\n# edited\n")
    forget()
    return {name for name in names if code.code_of(name) != before[name]}


@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        ("c.py", {"a", "b", "b.deep", "c", "d", "e"}),
        ("b/deep.py", {"a", "b", "b.deep", "e"}),
        ("a.py", {"a"}),
        ("d.py", {"d"}),
        ("b/table.tsv", {"b"}),
        ("pool.py", {"loop", "pool"}),
    ],
)
def test_an_edit_reaches_what_imports_it(package, edited, expected):
    assert changed_by(package, edited) == expected


def test_the_digest_is_of_bytes_not_of_times(package):
    before = code.code_of("a")
    (package / "c.py").write_bytes((package / "c.py").read_bytes())
    forget()
    assert code.code_of("a") == before


def test_compiled_files_do_not_count(package):
    before = code.code_of("b")
    (package / "b" / "__pycache__").mkdir()
    (package / "b" / "__pycache__" / "deep.cpython-311.pyc").write_bytes(b"x")
    forget()
    assert code.code_of("b") == before


def test_a_name_that_is_no_module_is_an_error(package):
    with pytest.raises(ModuleNotFoundError, match="no module 'nothing'"):
        code.code_of("nothing")


def test_the_labels_of_this_package_do_not_depend_on_how_scans_are_found():
    names = {path.name for path in files_behind("dataset.outcome")}
    assert {"outcome.py", "participants.py", "files.py"} <= names
    assert not {"discovery.py", "timing.py"} & names


def files_behind(module: str) -> set[Path]:
    pending, seen = list(code._files_of(module)), set()
    while pending:
        path = pending.pop()
        if path not in seen:
            seen.add(path)
            pending += code._imports_of(path)
    return seen
