"""examples/terrain.py: with terrains whose model is known in closed form, and with the real model if it is installed."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

SCRIPT = Path(__file__).parents[1] / "examples" / "terrain.py"


@pytest.fixture(scope="module")
def terrain() -> ModuleType:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("terrain", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def denoise(noisy: Tensor, sigma: float, difficulty: int) -> Tensor:
    """The mean of white terrains whose deviation is a twentieth of their difficulty, given their noisy heights."""
    variance = (difficulty / 20) ** 2
    return noisy * variance / (variance + sigma**2)


def correlation(x: Tensor, y: Tensor) -> float:
    return torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1].item()


def test_heights_and_the_models_scale_are_inverse(terrain: ModuleType):
    heights = torch.linspace(3, 20, 128).expand(1, 1, 128, 128)
    torch.testing.assert_close(terrain.to_metres(terrain.to_model(heights)), heights - 3)
    assert terrain.to_model(torch.tensor([[0.0, 1000.0]])).tolist() == [[-1, 1]]
    assert terrain.roughness(terrain.to_model(heights)) == pytest.approx(17 / 127, rel=1e-4)


def test_windows_are_real_hills_of_true_slopes(terrain: ModuleType):
    found = terrain.windows(16)
    assert [x.shape for x in found] == [(1, 1, 128, 128)] * 16
    assert all(0.1 < terrain.roughness(x) < 1 for x in found)
    assert all(x.min() == -1 and x.max() < 1 for x in found)


def test_a_terrain_returns_exactly_and_an_edit_is_rougher_and_like_it(terrain: ModuleType):
    source = terrain.draw(denoise, 20, seed=1)
    edited = terrain.edit(denoise, source, 20, 80)
    torch.testing.assert_close(edited.returned, source, rtol=0, atol=1e-6)
    assert edited.edit.std() > 2 * source.std()
    assert correlation(edited.edit, source) > 0.2
    assert correlation(terrain.draw(denoise, 80, seed=2), source) < 0.05


def test_the_default_edit_of_real_hills_is_rough_enough_and_like_them(
    terrain: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("terrain_diffusion")
    picture = tmp_path / "terrain.png"
    monkeypatch.setattr("sys.argv", ["terrain.py", "--windows", "16", "--output", str(picture)])
    terrain.main()
    rough, alike = (float(part.split()[-1]) for part in capsys.readouterr().out.splitlines()[1].split(";"))
    assert rough >= 0.7
    assert alike > 0.4
    assert picture.is_file()
