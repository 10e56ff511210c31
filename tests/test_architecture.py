"""The arrows of DESIGN.md point one way: who may import whom, who may use Prefect, who may name MLflow's aliases."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("level0_notebooks", "level1_pipeline", "serving", "monitoring", "level2_cicd")
# `tables`, `leases`, `outcomes` and `quarantine` belong to the store: what it holds, who may change a route,
# what happened, what is set apart;
# `schema` belongs to the problem.
STORE = ("store", "tables", "leases", "outcomes", "quarantine")
SHARED = {f"level1_pipeline.{name}" for name in ("problem", "schema", "settings", "bundle", *STORE)}
JUDGING = {f"level1_pipeline.{name}" for name in ("flights", "validation", "evaluation")}
MAY_IMPORT = {  # besides itself; a folder stands for all its modules
    "level0_notebooks": set(),
    "level1_pipeline": {"level1_pipeline"},
    "serving": {"serving", *SHARED},
    "monitoring": {"monitoring", *SHARED, *JUDGING},
    "level2_cicd": {"level2_cicd", "level1_pipeline", "serving", "monitoring"},
}
WITH_PREFECT = {"level1_pipeline/flow.py", "level1_pipeline/schedule.py"}
ALIASES = {"set_registered_model_alias", "delete_registered_model_alias", "get_model_version_by_alias"}
ALIAS_OWNER = "level1_pipeline/registry.py"


def source(file: Path) -> str:
    """The Python of a module, or of the code cells of a notebook (without its magic lines)."""
    if file.suffix == ".py":
        return file.read_text()
    cells = ["".join(cell["source"]) for cell in json.loads(file.read_text())["cells"] if cell["cell_type"] == "code"]
    return "\n".join(line for cell in cells for line in cell.splitlines() if not line.lstrip().startswith(("%", "!")))


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Every module that is imported anywhere in the file, in full; `from a import b` counts as `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            yield from (".".join([*relative, *filter(None, [node.module]), name.name]) for name in node.names)


def violations(root: Path) -> list[str]:
    found = []
    for file in sorted(
        file for folder in FOLDERS for kind in ("*.py", "*.ipynb") for file in (root / folder).rglob(kind)
    ):
        path = file.relative_to(root)
        if ".ipynb_checkpoints" in path.parts:
            continue
        tree = ast.parse(source(file))
        for module in imported(tree, ".".join(path.parent.parts)):
            top, prefixes = module.split(".")[0], {".".join(module.split(".")[:n]) for n in (1, 2)}
            if top in FOLDERS and not prefixes & MAY_IMPORT[path.parts[0]]:
                found.append(f"{path} imports {module}")
            if top == "prefect" and path.parts[0] == "level1_pipeline" and str(path) not in WITH_PREFECT:
                found.append(f"{path} imports prefect")
        message = {str(getattr(node, key, "")) for node in ast.walk(tree) for key in ("attr", "id", "name", "value")}
        found += [f"{path} names {word}" for word in sorted(message & ALIASES) if str(path) != ALIAS_OWNER]
    return found


def test_the_arrows_point_one_way() -> None:
    assert violations(ROOT) == []


def test_something_is_checked() -> None:
    assert list((ROOT / "level1_pipeline").glob("*.py"))
    assert set(FOLDERS) == set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("path", "code", "expected"),
    [
        ("level1_pipeline/a.py", "import serving.app", ["imports serving.app"]),
        ("level1_pipeline/a.py", "def f():\n    from monitoring import drift", ["imports monitoring.drift"]),
        ("level1_pipeline/a.py", "from prefect import flow", ["imports prefect"]),
        ("level1_pipeline/flow.py", "import prefect", []),
        ("level1_pipeline/deep/a.py", "from ...level2_cicd import rollout", ["imports level2_cicd.rollout"]),
        ("level1_pipeline/a.py", "from . import store\nfrom .settings import Settings", []),
        ("serving/a.py", "from level1_pipeline import bundle, registry", ["imports level1_pipeline.registry"]),
        ("serving/a.py", "from level1_pipeline.store import Store\nimport level1_pipeline.bundle", []),
        ("serving/a.py", "import level1_pipeline", ["imports level1_pipeline"]),
        ("serving/a.py", "from level1_pipeline.flights import load", ["imports level1_pipeline.flights.load"]),
        ("monitoring/a.py", "from level1_pipeline import flights\nimport serving", ["imports serving"]),
        ("level2_cicd/a.py", "import serving, monitoring.drift\nfrom level1_pipeline import registry", []),
        (
            "level2_cicd/a.py",
            "client.set_registered_model_alias('m', 'champion', 1)",
            ["names set_registered_model_alias"],
        ),
        ("level2_cicd/a.py", "getattr(client, 'get_model_version_by_alias')", ["names get_model_version_by_alias"]),
        ("level1_pipeline/registry.py", "client.delete_registered_model_alias('m', 'champion')", []),
        ("level0_notebooks/run.py", "from level1_pipeline import problem", ["imports level1_pipeline.problem"]),
        ("level0_notebooks/a.ipynb", "%matplotlib inline\nimport pandas\nimport serving", ["imports serving"]),
    ],
)
def test_the_check_catches_what_is_forbidden_and_nothing_else(
    tmp_path: Path, path: str, code: str, expected: list[str]
) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    cell = {"cell_type": "code", "source": code.splitlines(keepends=True)}
    file.write_text(json.dumps({"cells": [cell]}) if file.suffix == ".ipynb" else code)
    assert violations(tmp_path) == [f"{path} {what}" for what in expected]
