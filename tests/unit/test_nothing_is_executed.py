"""No source reads a file in a way that could run what stands in it."""

import ast
from pathlib import Path

import pytest
import yaml

import fewlabel

SOURCES = sorted(Path(fewlabel.__file__).parent.rglob("*.py"))
#: Calls that run what they are given, by their last two names.
NEVER = {
    *("pickle.load", "pickle.loads", "dill.load", "joblib.load", "yaml.unsafe_load", "yaml.full_load", "marshal.loads"),
    *("os.system", "shelve.open", "eval", "exec", "pd.read_pickle", "pandas.read_pickle"),
}


def called(node):
    """``torch.load`` of a call; the name alone of one that is imported by name."""
    match node.func:
        case ast.Attribute(attr=name, value=ast.Name(id=owner)):
            return f"{owner}.{name}"
        case ast.Name(id=name):
            return name
    return ""


def faults(source):
    """Lines with such a call."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name, given = called(node), {word.arg: ast.unparse(word.value) for word in node.keywords}
        if (
            name in NEVER
            or (name == "torch.load" and given.get("weights_only") != "True")
            or (name == "yaml.load" and given.get("Loader") != "_Loader")
            or given.get("allow_pickle") == "True"
            or given.get("shell") == "True"
        ):
            yield node.lineno, name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_call_runs_what_it_reads(path):
    assert list(faults(path.read_text(encoding="utf-8"))) == []


def test_the_loader_of_yaml_is_a_safe_one():
    from fewlabel.pipelines.yaml_files import _Loader

    assert issubclass(_Loader, yaml.SafeLoader)
    with pytest.raises(yaml.YAMLError):
        yaml.load("!!python/object/apply:os.getcwd []", Loader=_Loader)


def test_each_of_these_would_be_found():
    for call in (
        *("pickle.load(f)", "torch.load(f)", "torch.load(f, weights_only=False)", "np.load(f, allow_pickle=True)"),
        *("eval(text)", "subprocess.run(text, shell=True)", "yaml.load(f)", "yaml.load(f, yaml.Loader)"),
    ):
        assert list(faults(call)), call
    assert not list(faults("torch.load(f, weights_only=True)"))
