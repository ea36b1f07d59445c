"""Imports follow the layers, and each heavy library is imported in only a few places."""

import ast
import functools
import graphlib
import subprocess

from checkout import ROOT, tree_of

ORDER = """errors _signal < options < base < windows < sensor_windows messages < io < stamps
           < recording history html ops < preprocessing nn readers < features sequence datasets
           < prediction < training < learners < inspection < diagnosis export < estimator
           < model_selection evaluation prepare < first_model < cli < __main__"""
TOP = """.ci .clang-format .dockerignore .gitattributes .gitignore CHANGELOG.md CONTRIBUTING.md
         Dockerfile LICENSE MANIFEST.in Makefile README.md SECURITY.md benchmarks build_cuda.py
         csrc data docs examples mkdocs.yml pyproject.toml requirements runtime scripts sensorseq
         setup.py tests"""
DEPTH = {name: i for i, layer in enumerate(ORDER.split("<")) for name in layer.split()}
DIAGNOSIS_ORDER = """thresholds log_names defaults < metrics < causes < statements < evidence
                     < judge logs < report_text < report_page < report"""
OFFERED = ("preprocessing/__init__.py", "inspection")  # find_leakage is exported with the splits
HOME = {  # each library, with prefixes of the paths where it may be imported
    "h5py": ("io/hdf5_file.py", "io/foreign.py"),
    "sklearn": (
        "estimator/",
        "model_selection.py",
        "evaluation/",
        "features/grow_trees.py",
        "inspection/label_errors.py",
        "preprocessing/splitters.py",
        "preprocessing/transformers.py",
        "training/labels.py",
    ),
    "torch": (
        "ops/",
        "nn/",
        "training/",
        "cli/self_check.py",
        "learners/",
        "estimator/",
        "export/",
        "model_selection.py",
    ),
    "typer": ("cli/",),
    "rich": ("cli/output.py", "training/progress.py"),
    "jinja2": ("html/", "export/"),
    "dask": ("prepare/workers.py",),
    "distributed": ("prepare/workers.py",),
    "google": ("readers/robot_logs.py",),
    "mcap": ("readers/robot_logs.py",),
    "rosbags": ("readers/robot_logs.py",),
    "tensorboard": ("diagnosis/logs.py",),
    "onnx": ("export/graph.py",),
    "onnxruntime": ("export/to_onnx.py",),
}
# Arguments that users may give in any type, and results that contain such arguments.
USER_GIVEN = """X y X_val y_val groups groups_val lengths lengths_val sample_weight random_state
                callbacks augment features label classes cut value values default names
                in_order open_windows phase recording_id transform fit_transform inverse_transform
                option_field value_in"""


def statements_in(node):
    """Yield the statements of a module or of another statement, and the statements within them."""
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        for statement in getattr(node, name, ()):
            yield statement
            yield from statements_in(statement)


@functools.cache
def imports_of(path):
    nodes = statements_in(tree_of(path))
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


@functools.cache
def imported_names(path):
    names = []
    for node in imports_of(path):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        else:
            # A relative import begins with a dot, so its first part is an empty name.
            module = "." * node.level + (node.module or "")
            names += [f"{module}.{alias.name}" for alias in node.names]
    return names


def wrong_imports(path):
    file = path.relative_to(ROOT / "sensorseq").as_posix()
    own = file.split("/")[0].removesuffix(".py")
    for library, *rest in (name.split(".") for name in imported_names(path)):
        if not library:
            yield f"{file} has a relative import: write it in full"
        elif not file.startswith(HOME.get(library, "")):
            yield f"{file} may not import {library}"
        elif library != "sensorseq" or file == "__init__.py" or rest[0] == own:
            continue
        elif DEPTH[rest[0]] >= DEPTH[own] and (file, rest[0]) != OFFERED:
            yield f"{file} imports upwards: {rest[0]}"


def test_imports_point_downwards_and_heavy_libraries_have_one_home():
    files = sorted((ROOT / "sensorseq").rglob("*.py"))
    assert files
    assert [problem for path in files for problem in wrong_imports(path)] == []


def test_files_import_one_another_one_way():
    """Imports for types and in functions also count; a package's re-exports do not."""
    paths = sorted((ROOT / "sensorseq").rglob("[a-z_]*.py"))
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    known = {name for name in names.values() if not name.endswith("__init__")}
    graph = {
        name: {
            module
            for imported in imported_names(path)
            for module in (imported, imported.rpartition(".")[0])
            if module in known and module != name
        }
        for path, name in names.items()
        if name in known
    }
    assert any(graph.values())
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_the_parts_of_the_diagnosis_import_one_another_one_way():
    layers = DIAGNOSIS_ORDER.split("<")
    depth = {name: i for i, layer in enumerate(layers) for name in layer.split()}
    files = sorted((ROOT / "sensorseq" / "diagnosis").glob("[a-z]*.py"))
    assert {path.stem for path in files} == depth.keys()
    upwards = [
        f"{path.stem} imports {other}"
        for path in files
        for name in imports_anywhere(path)
        for other in name.removeprefix("sensorseq.diagnosis.").split(".")[:1]
        if other in depth and name.startswith("sensorseq.diagnosis.")
        if depth[other] >= depth[path.stem]
    ]
    assert upwards == []


def imports_anywhere(path):
    """Yield the imports of a module, including those in functions and for types."""
    for node in imports_of(path):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_top_folder_contains_only_known_files():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {name.split("/")[0] for name in listed.stdout.splitlines()} == set(TOP.split())


def is_bare(annotation):
    """Return whether an annotation is `Any` or `object`, or a union that contains one of them."""
    parts = "" if annotation is None else ast.unparse(annotation)
    return not {"Any", "object"}.isdisjoint(part.strip() for part in parts.split("|"))


def untyped(node, name):
    """Yield the names of untyped parts of a function or of the public part of a class."""
    if isinstance(node, ast.ClassDef):
        for part in node.body:
            own = getattr(part, "name", "")
            if isinstance(part, ast.AnnAssign) and is_bare(part.annotation):
                yield f"{name}.{ast.unparse(part.target)}"
            elif isinstance(part, ast.FunctionDef) and (own == "__init__" or own[0] != "_"):
                yield from untyped(part, f"{name}.{own}")
    elif isinstance(node, ast.FunctionDef):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        yield from (f"{name}({a.arg})" for a in arguments if is_bare(a.annotation))
        if is_bare(node.returns):
            yield f"{name} ->"


def untyped_crossings(trees):
    """Yield untyped objects imported across packages; `trees` has each module's syntax tree."""
    package = {module: module.split(".")[1] if "." in module else "" for module in trees}
    crossing = {
        (imported.module.split(".")[1], alias.name)
        for module, tree in trees.items()
        for imported in statements_in(tree)
        if isinstance(imported, ast.ImportFrom) and imported.module.startswith("sensorseq.")
        for alias in imported.names
        if imported.module.split(".")[1] != package[module]
    }
    for module, tree in trees.items():
        is_whole = (package[module], module.split(".")[-1]) in crossing
        for node in tree.body:
            name = getattr(node, "name", "")
            if (package[module], name) in crossing or (is_whole and name[:1] not in ("", "_")):
                for found in untyped(node, name):
                    argument = found.partition("(")[2].rstrip(")")
                    value = argument or found.split(" ")[0].rpartition(".")[2]
                    if value not in USER_GIVEN.split():
                        yield f"{module}: {found}"


def test_objects_imported_across_packages_are_typed():
    trees = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): (
            tree_of(path)
        )
        for path in (ROOT / "sensorseq").rglob("*.py")
    }
    assert len(trees) > 200
    assert list(untyped_crossings(trees)) == []


def test_only_values_read_from_files_are_cast():
    """A cast of one of our objects would hide missing attributes."""
    files = (ROOT / "sensorseq").rglob("*.py")
    found = {path for path in files if "typing.cast" in imported_names(path)}
    assert {path.relative_to(ROOT / "sensorseq").as_posix() for path in found} == {
        *("prepare/recording_part.py", "readers/__init__.py", "readers/join.py"),
        "prediction/preparation.py",
    }


def test_untyped_objects_imported_across_packages_are_found():
    sources = {
        "sensorseq.lower.part": "def run(model: Any, X: Any, n: int | object) -> Any: ...\n"
        "class Part:\n    kept: object\n    def fit(self, y: Any) -> int: ...\n"
        "def private(model: Any): ...\n",
        "sensorseq.upper.main": "from sensorseq.lower.part import Part, run\n",
    }
    trees = {module: ast.parse(source) for module, source in sources.items()}
    assert [found.split(": ")[1] for found in untyped_crossings(trees)] == [
        *("run(model)", "run(n)", "run ->", "Part.kept"),
    ]
