"""The repository around the package: links resolve, versions agree, dependencies are declared, nothing is private."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import s1pro

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").rglob("*.md")])
OWN_FOLDERS = ("s1pro", "tests", "docs", "bench", ".ci")
TEXT_ENDINGS = {".py", ".md", ".toml", ".txt", ".json", ".html", ".css", ".yaml", ".yml", ".cfg", ""}

# Distribution name where it differs from the name one imports.
DISTRIBUTION = {
    "Bio": "biopython",
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "docling_parse": "docling-parse",
    "faiss": "faiss-cpu",
    "RNA": "viennarna",
    "lm_eval": "lm-eval",
    "math_verify": "math-verify",
    "pdfminer": "pdfminer.six",
    "vl_convert": "vl-convert-python",
    "prometheus_client": "prometheus-client",
    "rouge_score": "rouge-score",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
# Come with a declared dependency: markupsafe with jinja2, huggingface_hub with transformers, scipy with scikit-learn,
# pydantic and starlette with fastapi.
COMES_ALONG = {"absl", "markupsafe", "huggingface_hub", "scipy", "pydantic", "starlette"}


def own_files() -> list[Path]:
    files = [path for path in ROOT.iterdir() if path.is_file() and path.suffix in TEXT_ENDINGS]
    for folder in OWN_FOLDERS:
        files += [path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix in TEXT_ENDINGS]
    return [path for path in files if path.name != ".git" and not {"__pycache__", "goldens"} & set(path.parts)]


def requirement_name(requirement: str) -> str:
    return re.split(r"[\s<>=!~\[;]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def declared() -> set[str]:
    extras = PROJECT["optional-dependencies"].values()
    return {requirement_name(text) for group in (PROJECT["dependencies"], *extras) for text in group}


def anchors(document: Path) -> set[str]:
    """The fragments of a Markdown file, as code hosts make them from headings."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE):
        text = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
        found.add(text.strip().replace(" ", "-"))
    return found


def resolves(document: Path, target: str) -> bool:
    if target.startswith(("http://", "https://", "mailto:")):
        return True
    name, _, fragment = target.partition("#")
    path = (document.parent / name).resolve() if name else document
    if not path.exists() or not path.is_relative_to(ROOT):
        return False
    return not fragment or path.suffix != ".md" or fragment in anchors(path)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert [target for target in targets if not resolves(document, target)] == []


def test_the_first_command_comes_early() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert "make demo" in "\n".join(lines[:20])


def test_versions_agree() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", s1pro.__version__)
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## (\d\S*)", changelog, flags=re.MULTILINE)
    assert "## Unreleased" in changelog or s1pro.__version__ in released
    assert not released or released[0] <= s1pro.__version__


def test_every_pin_is_exact_and_portable() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", pin)] == []
    missing = declared() - {requirement_name(pin) for pin in pins}
    assert missing == set(), "declared in pyproject.toml but not pinned in constraints.txt"


def test_every_import_is_declared() -> None:
    neighbours = {path.stem for path in (ROOT / "bench").glob("*.py")}
    allowed = declared() | COMES_ALONG | neighbours | {"s1pro", "tests", "bench"}
    undeclared = []
    for path in sorted(path for folder in ("s1pro", "tests", "bench") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                head = name.split(".")[0]
                if head not in sys.stdlib_module_names and DISTRIBUTION.get(head, head).lower() not in allowed:
                    undeclared.append(f"{path.relative_to(ROOT)}:{node.lineno} {head}")
    assert undeclared == []


def test_no_file_names_a_machine() -> None:
    """Paths of one computer mean nothing on another."""
    private = re.compile(r"(?<![\w.])/(?:work|home|Users|root)/\w+|\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?/simple")
    found = []
    for path in own_files():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if private.search(line) and path != Path(__file__).resolve():
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert found == []


def test_files_are_small() -> None:
    """A Python file of more than 500 lines is several files."""
    counts = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "s1pro").rglob("*.py")}
    assert {str(path.relative_to(ROOT)): count for path, count in counts.items() if count > 500} == {}


def test_python_too_old_is_named(tmp_path: Path) -> None:
    """`make` says what is missing instead of failing inside pip."""
    old = tmp_path / "python-old"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.1" && exit 0\nexit 1\n')
    old.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(
        ["make", "venv", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr and "Python 3.9.1" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_names_of_everyday_use_resolve() -> None:
    lazy = [name for name in dir(s1pro) if not name.startswith("_") and name not in vars(s1pro)]
    assert "load_network" in lazy
    assert [name for name in lazy if getattr(s1pro, name) is None] == []
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = s1pro.nothing


def test_importing_the_package_is_light() -> None:
    code = "import s1pro, sys; assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
