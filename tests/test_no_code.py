"""Nothing that frugalseg reads can make it run code, and nothing is unpacked or handed to a shell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "frugalseg"
MODULES = {
    "pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "code", "codeop", "runpy",
    "subprocess", "pty", "tarfile", "zipfile", "imp", "ctypes", "xmlrpc", "logging.config",
}  # fmt: skip
CALLS = {
    "eval", "exec", "compile", "__import__", "importlib.import_module", "import_module", "importlib.__import__",
    "os.system", "os.popen", "os.startfile", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all",
    "torch.load", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter", "numpy.load", "np.load",
    "pandas.read_pickle", "shutil.unpack_archive", "blosc2.load_array", "blosc2.unpack_array2",
}  # fmt: skip
METHODS = {"extractall", "unpack_archive", "find_class", "loads_pickle"}
PREFIXES = ("os.exec", "os.spawn", "os.posix_spawn")
KEYWORDS = {"shell", "allow_pickle", "deserialize"}
# The public names of the package come from modules of its own, by a list that stands beside it.
# Published weights are arrays by name: np.load refuses pickled ones unless told otherwise, which KEYWORDS forbids;
# zipfile is imported for the error of a damaged file. ctypes: numbers for the C library that is in the process
# already; no library is loaded by name.
ALLOWED = {
    ("__init__.py", "import_module"),
    ("networks/published.py", "np.load"),
    ("networks/published.py", "zipfile"),
    ("training/allocator.py", "ctypes"),
}


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def breaches(text: str) -> list[str]:
    """Return what a file does that it may not."""
    tree = ast.parse(text)
    found = [name for name in imported(tree) if name in MODULES or name.split(".")[0] in MODULES]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in CALLS or name.startswith(PREFIXES) or name.rsplit(".", 1)[-1] in METHODS:
            found.append(name)
        if name == "getattr" and node.args and ast.unparse(node.args[0]).startswith(("sys.modules", "importlib")):
            found.append(name)
        found += [f"{name}({keyword.arg}=)" for keyword in node.keywords if keyword.arg in KEYWORDS]
    return found


def test_the_source_has_none_of_it() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 60
    for path in files:
        place = path.relative_to(SOURCE).as_posix()
        found = [name for name in breaches(path.read_text(encoding="utf-8")) if (place, name) not in ALLOWED]
        assert found == [], place


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import importlib; importlib.import_module(config['cls'])",
        "from importlib import import_module; import_module(name)",
        "__import__(name)",
        "import yaml; yaml.load(text, Loader=yaml.Loader)",
        "yaml.full_load(text)",
        "import tarfile",
        "from zipfile import ZipFile",
        "archive.extractall(folder)",
        "shutil.unpack_archive(path)",
        "import subprocess",
        "os.system('ls')",
        "os.execvp('ls', [])",
        "run('ls', shell=True)",
        "torch.load(path, weights_only=True)",
        "np.load(path)",
        "reader(path, allow_pickle=True)",
        "eval('1')",
        "import logging.config",
        "getattr(sys.modules['x'], name)",
    ],
)
def test_the_scan_finds_it(line: str) -> None:
    assert breaches(line)


def test_every_yaml_is_parsed_in_one_place() -> None:
    users = [path for path in SOURCE.rglob("*.py") if "yaml" in list(imported(ast.parse(path.read_text())))]
    assert [path.relative_to(SOURCE).as_posix() for path in users] == ["config/load.py"]
    assert "class _OnceLoader(yaml.SafeLoader)" in users[0].read_text()
