"""The package as it is shipped: its modules import in one direction, and its entry file names a missing folder."""

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1]
ORDER = (
    *("gate.refusal", "gate.content", "gate.sizes", "gate.fields", "gate.routes", "gate.exchange", "gate.application"),
    *("bounded", "settings", "webhook", "store", "limits", "prices", "estimates", "events", "spool", "delivery"),
    *("keys", "calls", "hooks", "process"),
)
"""A module imports only modules before it."""


def module_name(path: Path) -> str:
    """The name of a module inside the package."""
    return ".".join(path.relative_to(FOLDER / "codexflow_litellm").with_suffix("").parts)


def imports(path: Path) -> set[str]:
    """All modules that a module imports, at any place in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


MODULES = {module_name(path): imports(path) for path in sorted((FOLDER / "codexflow_litellm").rglob("*.py"))}


def test_modules_import_in_one_direction() -> None:
    assert {name for name in MODULES if not name.endswith("__init__")} == set(ORDER)
    later = {
        name: [other for other in ORDER[ORDER.index(name) :] if f"codexflow_litellm.{other}" in MODULES[name]]
        for name in ORDER
    }
    assert later == {name: [] for name in ORDER}
    # The order is one of modules that do import each other.
    assert sum(f"codexflow_litellm.{other}" in MODULES[name] for name in ORDER for other in ORDER) > 30


def test_only_the_standard_library_and_what_litellm_ships_is_imported() -> None:
    allowed = {*sys.stdlib_module_names, "codexflow_litellm", "fastapi", "litellm", "orjson"}
    found = {name.split(".")[0] for names in MODULES.values() for name in names}
    assert {"litellm", "orjson", "asyncio"} <= found <= allowed


def test_the_entry_file_names_the_folder_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = tmp_path / "codexflow.py"
    entry.write_text((FOLDER / "codexflow.py").read_text())
    # Docker makes an empty folder for one that cannot be mounted.
    (tmp_path / "codexflow_litellm").mkdir()
    for name in [name for name in sys.modules if name.split(".")[0] == "codexflow_litellm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if Path(path).resolve() != FOLDER])
    # As LiteLLM loads it.
    spec = importlib.util.spec_from_file_location("codexflow", entry)
    assert spec is not None and spec.loader is not None
    with pytest.raises(RuntimeError, match="needs the folder codexflow_litellm beside it"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
