"""docs/architecture.md, kept true: who may import whom, what stays out of `import renoise`, and what no file may contain."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "renoise"
MODULES = sorted(SOURCE.rglob("*.py"))

# Module -> (modules of the package that it may import, packages beyond the standard library that it may import).
# A module imports only what stands above it here: imports point downwards, to the left in docs/architecture.md.
STANDARD, TORCH = frozenset[str](), frozenset({"torch"})
LAYERS: dict[str, frozenset[str]] = {
    "schedule": STANDARD,
    "prediction": STANDARD,
    "samplers": STANDARD,
    "files": STANDARD,
    "edits": TORCH,
    "scalars": STANDARD,
    "step": TORCH,
    "layout": TORCH,
    "regularize": TORCH,
    "programs": TORCH,
    "algorithm": TORCH,
    "spectrum": TORCH,
    "editing": TORCH,
    "masks": TORCH,
    "blending": TORCH,
    "methods": STANDARD,
    "methods.method": TORCH,
    "methods.renoise": TORCH,
    "methods.sdedit": STANDARD,
    "methods.edit_friendly": TORCH,
    "methods.flowedit": TORCH,
    "metrics": TORCH,
    "record": TORCH | {"msgspec"},
    "inversion": TORCH | {"safetensors"},
    "colour": frozenset({"PIL", "numpy"}),
    "picture_files": frozenset({"PIL", "pillow_heif"}),
    "images": frozenset({"PIL", "numpy", "torch"}),
    "pipelines.presets": STANDARD,
    "pipelines.finding": STANDARD,
}
HEAVY = {"diffusers", "transformers", "accelerate", "peft"}  # pipelines/ only
TOP = {"cli", "bench"}  # nobody below imports them


def _name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> set[str]:
    """Every absolute module name that a file imports, at its top or in a function."""
    package, found = ["renoise", *_name(path).split(".")], set[str]()
    package = package if path.name == "__init__.py" else package[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base += [node.module] if node.module else []
            found |= {".".join([*base, alias.name]) for alias in node.names}
    return found


def _own(path: Path) -> set[str]:
    """The modules of the package that a file imports: "step", "pipelines.driver" …"""
    names, known = set[str](), {_name(module) for module in MODULES}
    for imported in _imports(path):
        parts = imported.split(".")
        if parts[0] == "renoise":
            while parts and ".".join(parts[1:]) not in known:
                parts.pop()
            names.add(".".join(parts[1:]))
    return names - {""}


def _foreign(path: Path) -> set[str]:
    """The packages beyond the standard library that a file imports."""
    return {name.split(".")[0] for name in _imports(path)} - sys.stdlib_module_names - {"renoise"}


EACH = pytest.mark.parametrize("path", MODULES, ids=[_name(path) or "renoise" for path in MODULES])


@EACH
def test_a_layer_imports_only_the_libraries_it_may(path: Path) -> None:
    if _name(path) in LAYERS:
        assert _foreign(path) <= LAYERS[_name(path)]


@EACH
def test_diffusers_is_imported_in_pipelines_only(path: Path) -> None:
    if not _name(path).startswith("pipelines"):
        assert not _foreign(path) & HEAVY


@EACH
def test_the_lower_layers_do_not_know_the_upper_ones(path: Path) -> None:
    name, lower = (
        _name(path),
        set(LAYERS) - {"picture_files", "images", "metrics", "pipelines.presets", "pipelines.finding"},
    )
    if name in lower:
        assert _own(path) <= lower
    elif name.startswith("pipelines"):
        assert not {own for own in _own(path) if own == "api"}
    if name.split(".")[0] not in TOP:
        assert not {own for own in _own(path) if own.split(".")[0] in TOP}


def test_no_import_cycles() -> None:
    graph, done = {_name(path): _own(path) for path in MODULES if _name(path)}, set[str]()
    while len(done) < len(graph):
        ready = {name for name in graph if name not in done and graph[name] - {name} <= done}
        assert ready, f"these import each other: {sorted(set(graph) - done)}"
        done |= ready


@pytest.mark.parametrize(
    "statement", ["import renoise", "import renoise; renoise.ReNoise, renoise.PRESETS, dir(renoise)"]
)
def test_importing_the_package_is_light(statement: str) -> None:
    code = (
        f"import sys; {statement}; print(*sorted({{'torch', 'diffusers', 'transformers', 'numpy'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_public_name_is_there() -> None:
    import renoise

    for name in renoise.__all__:
        assert getattr(renoise, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'inverse'"):
        _ = renoise.inverse  # pyright: ignore[reportAttributeAccessIssue]


CODE = sorted([*SOURCE.rglob("*.py"), *(ROOT / "training").rglob("*.py")])


@pytest.mark.parametrize("path", CODE, ids=[str(path.relative_to(ROOT)) for path in CODE])
def test_no_pickle(path: Path) -> None:
    """Weights and results are safetensors: a file from a stranger must not be able to run code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.split(".")[0] for name in imported} & {"pickle", "dill", "cloudpickle", "joblib", "shelve"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            call = ast.unparse(node.func)
            assert call not in {"torch.load", "torch.save"}
            if call in {"np.load", "numpy.load"}:
                assert not any(keyword.arg == "allow_pickle" for keyword in node.keywords)


FOLDERS = ("src", "training", "tests", "docs", "examples")
SUFFIXES = {".py", ".md", ".toml", ".txt", ".sh", ".cff", ".yaml", ".json", ".jsonl"}
TEXT = sorted(
    path
    for path in [*ROOT.glob("*"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))]
    if path.suffix in SUFFIXES
)


def test_no_file_speaks_of_one_machine() -> None:
    """Absolute paths work on one machine only, and tell about it."""
    place = re.compile(r"(?<![\w.:/])/(?:home|root|work|opt|tmp|mnt|Users)/\w")
    found = [
        f"{path.relative_to(ROOT)}:{i}" for path in TEXT for i, line in enumerate(_lines(path), 1) if place.search(line)
    ]
    assert not found


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_files_stay_short_enough_to_read() -> None:
    assert not [str(path.relative_to(ROOT)) for path in MODULES if len(_lines(path)) > 300]
