"""README.md and the other documents: short, their links lead somewhere, and the first example runs as it stands."""

import re
from pathlib import Path

import pytest
from PIL import Image

import renoise
from renoise.images import batch
from renoise.metrics import psnr

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCUMENTS = [
    README,
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "training" / "README.md",
]


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchor(heading: str) -> str:
    """The name that GitHub gives a heading: lower case, no punctuation, dashes for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_the_readme_is_short() -> None:
    assert len(text(README).splitlines()) <= 150


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    prose = re.sub(r"```.*?```", "", text(path), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if not re.match(r"[a-z]+:", link)]
    for link in links:
        name, _, heading = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        if heading:
            assert heading in map(anchor, re.findall(r"^#+ (.*)$", text(target), re.MULTILINE)), link


def test_the_first_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    (code, *_) = re.findall(r"```python\n(.*?)```", text(README), re.DOTALL)
    assert 'load("orchard")' in code
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    alone, ceiling = map(float, re.findall(r"\[([\d.]+)\]", capsys.readouterr().out)[:2])
    photo = Path(renoise.__file__).parent / "orchard" / "example.png"
    again = psnr(batch("again.png", 128, 128), batch(photo, 128, 128))[0].item()
    assert again == pytest.approx(ceiling, abs=0.1)  # 8 bits a colour
    assert 20 < alone < ceiling
    assert Image.open("again.png").size == Image.open("lemon.png").size == (128, 128)
    assert Path("apple.safetensors").is_file()
