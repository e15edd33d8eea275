"""No test is written and never run: by its name, its place, or another of the same name below it."""

from __future__ import annotations

import ast
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
Function = ast.FunctionDef | ast.AsyncFunctionDef


def faults_of(path: Path, text: str) -> list[str]:
    """What keeps a test of a file from being run."""
    return [f"{path.name}: {fault}" for fault in _faults(path, ast.parse(text))]


def _faults(path: Path, module: ast.Module) -> Iterator[str]:
    scopes: list[ast.Module | ast.ClassDef] = [
        module,
        *(node for node in module.body if isinstance(node, ast.ClassDef)),
    ]
    found = set()
    for scope in scopes:
        own = [node for node in scope.body if isinstance(node, Function) and node.name.startswith("test")]
        found |= set(map(id, own))
        yield from (f"{name} is there twice" for name, count in Counter(node.name for node in own).items() if count > 1)
        if own and isinstance(scope, ast.ClassDef):
            if not scope.name.startswith("Test"):
                yield f"{scope.name} holds tests, but is not called Test…"
            if any(isinstance(node, Function) and node.name == "__init__" for node in scope.body):
                yield f"{scope.name} holds tests and has a constructor"
        yield from (
            f"{node.name} is a coroutine, which nobody awaits" for node in own if isinstance(node, ast.AsyncFunctionDef)
        )
        yield from (f"{node.name} is called test…, not test_…" for node in own if not node.name.startswith("test_"))
    if found and not path.name.startswith("test_"):
        yield "holds tests, but is not called test_…"
    for node in ast.walk(module):
        if isinstance(node, Function) and node.name.startswith("test_") and id(node) not in found:
            yield f"{node.name} lies within something else"


def test_every_test_is_collected() -> None:
    files = [path for path in TESTS.rglob("*.py") if "__pycache__" not in path.parts]
    assert [fault for path in files for fault in faults_of(path, path.read_text())] == []
    # Folders that pytest does not enter.
    hidden = [
        path for path in files if any(part.startswith(".") or part == "build" for part in path.relative_to(TESTS).parts)
    ]
    assert hidden == []


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("test_a.py", "def test_x(): pass\ndef test_x(): pass", "test_x is there twice"),
        ("a_test.py", "def test_x(): pass", "holds tests, but is not called test_…"),
        ("test_a.py", "class Some:\n    def test_x(self): pass", "Some holds tests, but is not called Test…"),
        ("test_a.py", "class TestA:\n    def __init__(self): pass\n    def test_x(self): pass", "has a constructor"),
        ("test_a.py", "def outer():\n    def test_x(): pass", "test_x lies within something else"),
        ("test_a.py", "if False:\n    def test_x(): pass", "test_x lies within something else"),
        ("test_a.py", "async def test_x(): pass", "test_x is a coroutine"),
        ("test_a.py", "def testx(): pass", "testx is called test…"),
    ],
)
def test_what_would_not_be_run_is_named(name: str, text: str, fault: str) -> None:
    (found,) = faults_of(Path(name), text)
    assert fault in found
    assert faults_of(Path("test_a.py"), "class TestA:\n    def test_x(self): pass\ndef test_x(): pass") == []


def test_the_nightly_command_knows_its_steps() -> None:
    script = ROOT / ".ci" / "nightly"
    subprocess.run(["bash", "-n", script], check=True)
    done = subprocess.run([script, "fuzz", "nonsense"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "no such step: nonsense\n"
    steps = script.read_text().partition("steps=(fuzz")[2].partition(")")[0].split()
    assert all(f"\n{step}() {{\n" in script.read_text() for step in ("fuzz", *steps))
