"""The house: imports go one way, public names are exported and documented, docs say what is true."""

from __future__ import annotations

import ast
import inspect
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fewlabel

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "fewlabel"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
HEAVY = (
    "torch",
    "pandas",
    "numpy",
    "monai",
    "SimpleITK",
    "matplotlib",
    "fewlabel.core.settings.base",
    "starlette",
    "uvicorn",
)


def text(name: str) -> str:
    return (ROOT / name).read_text()


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_imports_go_down_the_house_only() -> None:
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(tool), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("words", [["--help"], ["pretrain", "--help"], ["recipes", "--help"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\n"
        "from fewlabel.cli import main\n"
        f"try: main({words!r})\n"
        "except SystemExit as end: code = end.code\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'{code} {loaded}' if code or loaded else 0)"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_nothing_heavy() -> None:
    done = python(f"import sys, fewlabel; sys.exit(str([name for name in {HEAVY!r} if name in sys.modules] or 0))")
    assert done.stderr.strip() in {"", "0"}, done.stderr


def test_what_does_not_train_does_not_wait_for_the_compiler_of_torch() -> None:
    stages = "from fewlabel.stages import evaluate, finetune, predict, prepare, pretrain, report, suggest"
    late = ("lightning_fabric", "torch._dynamo")
    done = python(f"import sys\n{stages}\nsys.exit(str([name for name in {late!r} if name in sys.modules] or 0))")
    assert done.stderr.strip() in {"", "0"}, done.stderr


def test_the_module_runs_as_torchrun_starts_it() -> None:
    done = subprocess.run([sys.executable, "-m", "fewlabel", "recipes"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "acdc-lite" in done.stdout


@pytest.mark.parametrize("name", fewlabel.__all__)
def test_public_names_are_there_and_documented(name: str) -> None:
    item = getattr(fewlabel, name)
    if name != "__version__":
        assert inspect.getdoc(item)


def test_nothing_public_is_left_out_of_the_list() -> None:
    named = {
        name
        for name, item in vars(fewlabel).items()
        if not name.startswith("_") and getattr(item, "__module__", "").startswith("fewlabel")
    }
    assert named == set(fewlabel.__all__) - {"__version__"}


def test_every_stage_is_a_public_function() -> None:
    from fewlabel.pipelines.settings_reference import PIPELINES
    from fewlabel.pipelines.stage_table import STAGES

    assert {*STAGES, *PIPELINES} <= set(fewlabel.__all__)


def test_a_stage_from_python_refuses_unknown_settings() -> None:
    with pytest.raises(fewlabel.SettingsError, match="Did you mean steps"):
        fewlabel.pretrain(data="p", out="e", step=3)
    with pytest.raises(fewlabel.SettingsError, match="data: this setting is required"):
        fewlabel.train(out="r", recipe="demo")


def test_one_version_everywhere() -> None:
    declared = re.search(r'^version = "(.+)"', text("pyproject.toml"), re.MULTILINE)
    assert declared is not None
    version = declared.group(1)
    assert fewlabel.__version__ == version
    assert f"\nversion: {version}\n" in text("CITATION.cff")
    assert f"\n## {version}\n" in text("CHANGELOG.md")


def test_every_public_thing_has_a_docstring() -> None:
    missing = []
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        if not ast.get_docstring(tree):
            missing.append(str(path))
    assert missing == []


def test_no_file_is_long() -> None:
    lengths = {str(path): len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_the_ci_finds_its_commands_in_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    head = script.read_text().split("\ntests=")[0].split("exec </dev/null\n")[1]
    done = subprocess.run(["bash", "-c", f"{head}\nblock tests"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'pip install -c constraints.txt -e ".[dev]" && pytest'
    assert "pip install -c constraints.txt -e . && fewlabel demo" in text("README.md")


def test_commands_in_the_pages_exist() -> None:
    import typer

    from fewlabel.cli import app

    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    used = set()
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
            used |= set(re.findall(r"^(?:.*-m )?fewlabel ([a-z]+)", block, re.MULTILINE))
    assert used <= known
    assert {"demo", "check", "train", "predict", "prepare", "pretrain", "finetune", "evaluate", "report"} <= used


def test_settings_in_the_pages_exist() -> None:
    from fewlabel.pipelines.settings_reference import PIPELINES, SERVICES, setting_rows
    from fewlabel.pipelines.stage_table import STAGES

    keys = {stage: {row["key"] for row in setting_rows(stage)} for stage in (*STAGES, *PIPELINES, *SERVICES)}
    every = set().union(*keys.values())
    open_ended = {
        row["key"]
        for stage in (*STAGES, "study")
        for row in setting_rows(stage)
        if "keys and values" in row["type"].lower()
    }
    unknown = []
    for page in PAGES:
        for command in re.findall(r"^(?:.*-m )?fewlabel (.+)$", page.read_text(), re.MULTILINE):
            stage, *words = command.split("#")[0].split()
            for word in words:
                key, equals, _ = word.strip("'").partition("=")
                if not equals or word.startswith("-") or stage == "settings":
                    continue
                owner, _, rest = key.partition(".")
                if owner in open_ended:
                    key = owner
                fits = rest in keys[owner] if owner in keys and rest else key in keys.get(stage, set())
                if not (fits or (stage in PIPELINES and key in every)):
                    unknown.append(f"{page.name}: fewlabel {stage} {word}")
    assert unknown == []


def test_links_between_the_pages_hold() -> None:
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            path, _, anchor = target.partition("#")
            if "://" in target:
                continue
            other = page.parent / path if path else page
            if not other.exists() or (anchor and anchor not in anchors(other)):
                broken.append(f"{page.name}: {target}")
    assert broken == []


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_public_function_method_and_regime_shows_an_example() -> None:
    from fewlabel.core.plugin_discovery import load_plugin, plugin_names

    families = ("fewlabel.methods", "fewlabel.regimes")
    shown = {name: load_plugin(family, name) for family in families for name in plugin_names(family)}
    shown |= {
        name: item for name, item in vars(fewlabel).items() if name in fewlabel.__all__ and inspect.isfunction(item)
    }
    assert [name for name, item in shown.items() if "Example:\n        >>> " not in (item.__doc__ or "")] == []


def test_plugins_import_nothing_private() -> None:
    private = []
    for path in (path for room in ("methods", "regimes", "readers") for path in (SOURCE / room).rglob("*.py")):
        assert path.stem == "__init__" or not path.stem.startswith("_"), path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fewlabel"):
                words = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                private += [f"{path.name}: {word}" for word in words if word.startswith("_")]
    assert private == []


def test_the_reference_is_up_to_date(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    main = runpy.run_path(str(ROOT / "docs" / "generate.py"))["main"]
    assert main(["--check"]) == 0, f"run python docs/generate.py: {capsys.readouterr().out}"


def test_the_pages_take_their_tables_from_code_and_committed_rows(capsys: pytest.CaptureFixture[str]) -> None:
    made = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    asked = [mark[1] for page in PAGES for mark in made["MARKED"].findall(page.read_text())]
    assert {"names", "supervised-when"} <= set(asked)
    assert {words.split()[1] for words in asked if words.startswith("summary")} >= {
        "acdc-ground", "probe", "regime-costs",
    }  # fmt: skip
    stale = "<!-- generated: names -->\nold\n<!-- end --> after"
    assert made["filled"](stale, "x.md") == f"<!-- generated: names -->\n\n{made['names']()}\n\n<!-- end --> after"
    with pytest.raises(SystemExit, match=r"x\.md: no block is named nothing; there are names"):
        made["filled"]("<!-- generated: nothing -->\n<!-- end -->", "x.md")
    with pytest.raises(SystemExit, match="needs its own"):
        made["filled"]("<!-- generated: names -->\n<!-- generated: names -->\n<!-- end -->", "x.md")


def test_no_table_of_methods_or_arms_is_written_by_hand() -> None:
    from fewlabel.core.plugin_discovery import plugin_names

    marked = runpy.run_path(str(ROOT / "docs" / "generate.py"))["MARKED"]
    names = "|".join(["scratch", *plugin_names("fewlabel.methods"), *plugin_names("fewlabel.regimes")])
    rows = re.compile(rf"^\| \[?`(?:{names})\b.*", re.MULTILINE)
    by_hand = [page for page in PAGES if page.parent.name != "reference"]
    assert [row for page in by_hand for row in rows.findall(marked.sub("", page.read_text()))] == []
    assert rows.search(text("docs/explanation/methods.md"))


def test_everything_discovered_is_in_the_lists_of_the_pages() -> None:
    from fewlabel.core.plugin_discovery import plugin_names

    readme, plugins = text("README.md"), text("docs/reference/plugins.md")
    for family in ("methods", "regimes", "readers"):
        for name in plugin_names(f"fewlabel.{family}"):
            assert f"`{name}`" in readme
            assert f"\n### {name}\n" in plugins


def test_constraints_pin_every_dependency_once() -> None:
    pins = [line.partition("==")[0].lower() for line in text("constraints.txt").splitlines() if "==" in line]
    assert len(pins) == len(set(pins))
    wanted = re.findall(r'^  "([A-Za-z0-9_-]+)[><=]', text("pyproject.toml"), re.MULTILINE)
    assert {name.lower() for name in wanted} <= set(pins)
    assert "+" not in text("constraints.txt").split("torch==")[1].splitlines()[0]


def test_the_licence_is_whole() -> None:
    licence = text("LICENSE")
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    assert licence.count("\n") >= 200


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_no_machine_paths_in_what_is_kept() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a checkout")
    kinds = {".py", ".md", ".toml", ".yaml", ".txt", ".html", ".cff", ".json", ".jsonl"}
    files = [ROOT / name for name in listed.stdout.splitlines() if Path(name).suffix in kinds]
    path = re.compile(r"(?<![\w.])/(?:root|home|work|tmp|opt)/\w")
    assert [str(file) for file in files if file.is_file() and path.search(file.read_text(errors="replace"))] == []
