"""Which module may import which: the table is here, and any other import fails.

An import goes down the rows, never up and never along one, but for the pairs of `BESIDE`. Inside a package
siblings are free, so long as nothing turns in a circle. Imports inside functions or for typing count too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ROOT_PACKAGE = "cfalign"  # its __init__: the public names, gathered from the modules below
ROWS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("entry", ("__main__",)),
    ("command line", ("_cli",)),
    ("public names", (ROOT_PACKAGE,)),
    ("explorer", ("_explorer",)),
    ("report", ("report",)),
    ("studies", ("_paper", "benchmarks")),
    ("stages", ("_audit", "_explanation", "_rectification")),
    ("drawing", ("_figures",)),
    ("unnamed features and regions", ("_discovery", "_regions")),
    ("training", ("training",)),
    ("counterfactuals", ("_counterfactuals",)),
    ("analysis", ("_analysis",)),
    ("edges", ("classifiers", "autoencoders", "datasets", "engines", "synthetic", "_runs")),
    ("heads and model files", ("_heads", "_models")),
    ("values", ("_results", "_findings", "_notebook", "_validation", "_errors", "_types")),
)
BESIDE = {
    ("_results", "_errors"),
    ("_results", "_types"),
    ("_results", "_findings"),
    ("_results", "_notebook"),
    ("_validation", "_errors"),
    ("_runs", "datasets"),
    ("_heads", "_models"),
}
APART = (
    ("counterfactuals", "edges"),
    ("analysis", "edges"),
)  # pure functions do not meet the outside world
FREE = {f"{ROOT_PACKAGE}.__version__"}  # a constant, set before the root package imports anything
NO_NAMES = {"utils", "util", "common", "helpers", "helper", "core", "base", "impl"}
LONGEST = 400

Graph = Mapping[str, set[str]]


@dataclass(frozen=True)
class Import:
    """One module of the package imported by another."""

    importer: str
    imported: str
    line: int


@dataclass(frozen=True)
class Tree:
    """A package's modules by dotted name."""

    files: Mapping[str, Path]

    @classmethod
    def read(cls, source: Path) -> Tree:
        """All modules of `source`/cfalign."""
        files = {}
        for path in sorted((source / ROOT_PACKAGE).rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        return cls(files)

    def imports(self) -> list[Import]:
        """Every import of one of its modules by another, at whatever depth of the code."""
        found = (
            Import(name, target, line)
            for name, path in self.files.items()
            for target, line in self._targets(name, path)
            if target != name
        )
        return list(dict.fromkeys(found))

    def _targets(self, module: str, path: Path) -> Iterator[tuple[str, int]]:
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            for name in _imported_names(node, package):
                if name not in FREE and (target := self._owner(name)):
                    yield target, node.lineno  # type: ignore[attr-defined]

    def _owner(self, name: str) -> str | None:
        """The module that `name` is, or is defined in; None outside the package."""
        while name and name not in self.files:
            name = name.rpartition(".")[0]
        return name or None


def _imported_names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        yield from (".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
        called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        if called in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
            name = str(node.args[0].value)
            yield f"{package}{name}" if name.startswith(".") else name


def unit(module: str) -> str:
    """What the table speaks of: the module or package right below the root."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def broken_rules(tree: Tree) -> list[str]:
    """One sentence per broken rule; nothing when the tree is as the table says."""
    imports = tree.imports()
    found = [_unknown(module) for module in tree.files if unit(module) not in _row_of()]
    found += [sentence for edge in imports if (sentence := _forbidden(edge))]
    graph: dict[str, set[str]] = {module: set() for module in tree.files}
    for edge in imports:
        graph[edge.importer].add(edge.imported)
    if circle := cycle(graph):
        found.append(f"import cycle: {' -> '.join(circle)}")
    for module, path in tree.files.items():
        if bad := NO_NAMES.intersection(part.strip("_") for part in module.split(".")):
            found.append(f"{module}: {bad.pop()!r} says nothing; name a module after what it holds")
        if (lines := path.read_text(encoding="utf-8").count("\n")) > LONGEST:
            found.append(f"{module}: {lines} lines, at most {LONGEST}; split it along its nouns")
    return found


def _row_of() -> dict[str, int]:
    return {name: number for number, (_, names) in enumerate(ROWS) for name in names}


def _unknown(module: str) -> str:
    return f"{module}: not in the table; give {unit(module)!r} a row in {Path(__file__).name}"


def _forbidden(edge: Import) -> str | None:
    rows, (above, below) = _row_of(), (unit(edge.importer), unit(edge.imported))
    if above == below or above not in rows or below not in rows:
        return None
    titles = ROWS[rows[above]][0], ROWS[rows[below]][0]
    where = f"{edge.importer} (line {edge.line}) imports {edge.imported}"
    if rows[above] > rows[below]:
        return f"{where}: {titles[0]} is below {titles[1]} and may not look up"
    if rows[above] == rows[below] and (above, below) not in BESIDE:
        return f"{where}: both are in the row {titles[0]!r}, and BESIDE has no such pair"
    if titles in APART:
        return f"{where}: {titles[0]} never imports {titles[1]}"
    return None


def cycle(graph: Graph) -> list[str] | None:
    """A closed path of the graph, first name repeated at its end; None when there is none."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str] | None:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        for following in sorted(graph.get(node, ())):
            if circle := visit(following, [*path, node]):
                return circle
        done.add(node)
        return None

    return next((circle for node in sorted(graph) if (circle := visit(node, []))), None)


def test_the_package_keeps_the_rules() -> None:
    broken = broken_rules(Tree.read(ROOT / "src"))
    assert not broken, "\n" + "\n".join(broken)


def test_the_table_is_consistent() -> None:
    rows = _row_of()
    assert len(rows) == sum(len(names) for _, names in ROWS), "a module stands in two rows"
    assert all(rows[a] == rows[b] for a, b in BESIDE), "BESIDE is for modules of one row"


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"_analysis": "from cfalign._audit import audit", "_audit": ""}, "analysis is below stages"),
        ({"_analysis": "def f():\n    from cfalign import audit", "_audit": ""}, "_analysis (line 2) imports"),
        (
            {"_analysis": "import importlib\nimportlib.import_module('cfalign._audit')", "_audit": ""},
            "may not look up",
        ),
        ({"_analysis": "from . import _runs", "_runs": ""}, "analysis never imports edges"),
        ({"_analysis": "from .training import fit", "training": "fit = 1"}, "analysis is below training"),
        ({"_audit": "import cfalign._explanation", "_explanation": ""}, "both are in the row 'stages'"),
        ({"_models": "from cfalign._heads import x", "_heads": "x = 1"}, "both are in the row 'heads and model files'"),
        ({"_audit": "import cfalign", "_runs": ""}, "stages is below public names"),
        (
            {"_runs": "import cfalign.datasets", "datasets": "import cfalign._runs"},
            "cfalign._runs -> cfalign.datasets -> cfalign._runs",
        ),
        (
            {"report/a": "from .b import x", "report/b": "def f():\n    from . import a"},
            "import cycle: cfalign.report.a",
        ),
        ({"report/utils": ""}, "'utils' says nothing"),
        ({"surprise": ""}, "not in the table"),
        ({"_analysis": "x = 1\n" * 401}, "401 lines"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    broken = broken_rules(_planted(tmp_path, files))
    assert any(complaint in sentence for sentence in broken), broken


@pytest.mark.parametrize(
    "files",
    [
        {
            "_counterfactuals": "from cfalign._analysis import x\nimport cfalign._heads",
            "_analysis": "x = 1",
            "_heads": "",
        },
        {"_runs": "from cfalign.datasets import x", "datasets": "from cfalign import __version__\nx = 1"},
        {"training/faces": "from ..synthetic import x", "synthetic": "x = 1"},
        {"report/a": "from .b import x\nimport torch", "report/b": "from cfalign._results import x"},
    ],
)
def test_what_the_table_allows_passes(tmp_path: Path, files: dict[str, str]) -> None:
    assert broken_rules(_planted(tmp_path, {"_results": "x = 1", **files})) == []


def _planted(folder: Path, files: Mapping[str, str]) -> Tree:
    for name, text in {"__init__": "__version__ = '0'", **files}.items():
        path = folder / ROOT_PACKAGE / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Tree.read(folder)
