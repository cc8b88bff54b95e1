"""Imports between rooms point one way (DESIGN section 3); this list is the whole permission."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "frugalseg"
GROUND = {"errors", "files", "formats", "geometry", "settings", "__init__"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "settings": set(),
    "files": {"errors"},
    "formats": {"errors", "files", "__init__"},
    "geometry": set(),
    "__init__": {"jobs"},
    "__main__": {"cli"},
    "data": GROUND,
    "networks": GROUND,
    "evaluation": GROUND,
    "objectives": GROUND | {"networks"},
    "inference": GROUND | {"data", "networks"},
    "semisup": GROUND | {"data", "networks", "objectives"},
    "training": GROUND | {"data", "networks", "objectives", "semisup"},
    "config": GROUND | {"data", "networks", "objectives", "semisup", "training", "inference"},
    "report": GROUND | {"data", "evaluation"},
    "jobs": GROUND
    | {"data", "networks", "objectives", "semisup", "inference", "training", "config", "evaluation", "report"},
    "study": GROUND | {"data", "config", "training", "evaluation", "jobs", "report"},
    "cli": GROUND | {"data", "config", "evaluation", "jobs", "report", "study"},
}
OUTSIDE = {"lightning_fabric": {"training"}}


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names |= {f"{module}.{alias.name}" for alias in node.names} if module == "frugalseg" else {module}
    return names


def room(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def violations(files: list[Path]) -> list[str]:
    found = []
    for path in files:
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "frugalseg":
                target = parts[1] if len(parts) > 1 and parts[1] != "__version__" else "__init__"
                if target not in ALLOWED[room(path)] | {room(path)}:
                    found.append(f"{path.relative_to(SOURCE)} imports {name}")
            elif parts[0] in OUTSIDE and room(path) not in OUTSIDE[parts[0]]:
                found.append(f"{path.relative_to(SOURCE)} imports {name}")
    return found


def test_imports_point_one_way() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 40
    assert violations(files) == []


def test_a_wrong_import_is_found(tmp_path: Path) -> None:
    wrong = SOURCE / "networks" / "blocks.py"
    assert "frugalseg.training.loop" not in imports(wrong)
    allowed = ALLOWED["networks"]
    assert "training" not in allowed
    assert "objectives" not in allowed
