"""Spoilt photographs, from which the judge of edits learns what to reject."""

import pytest
import torch

from training.spoilt import FAR, FRUITS, GROUNDS, Colours, Fruits, blurred, moved


def disc(colour: tuple[float, float, float], kind: int, width: float = 1.0, n: int = 8) -> Fruits:
    """Ellipses of one colour, with a little texture."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    alpha = ((x / 0.7 / width) ** 2 + (y / 0.7) ** 2 < 1).float().expand(n, 1, 64, 64)
    rgb = torch.tensor(colour).view(1, 3, 1, 1) + 0.05 * (9 * x).sin() * (7 * y).cos()
    return Fruits(rgb.expand(n, 3, 64, 64), alpha, torch.full((n,), kind))


RED, YELLOW, GROUND = disc((0.8, 0.2, 0.15), 0), disc((0.9, 0.8, 0.2), 1, width=0.5), torch.full((8, 3, 1, 1), 0.6)
COLOURS = Colours(torch.cat([RED.mean()[:1], YELLOW.mean()[:1]]), torch.tensor([0, 1]))


@pytest.mark.parametrize("way", FRUITS)
def test_a_spoilt_fruit_differs_from_the_fruit(way):
    torch.manual_seed(0)
    new, ok = FRUITS[way](RED, YELLOW, COLOURS, GROUND)
    assert new.rgb.shape == RED.rgb.shape
    assert ok.any() or way == "burnt"  # a red without detail only becomes redder
    assert new.alpha.min() >= 0
    assert new.alpha.max() <= 1.001
    changed = (new.rgb * new.alpha - RED.rgb * RED.alpha).abs().mean((1, 2, 3)) + (new.alpha - RED.alpha).abs().mean(
        (1, 2, 3)
    )
    assert changed[ok].gt(0.01).all()


@pytest.mark.parametrize("way", GROUNDS)
def test_a_spoilt_background_is_of_two_colours(way):
    torch.manual_seed(0)
    canvas = torch.full((8, 3, 64, 64), 0.6)
    new, ok = GROUNDS[way](canvas, RED.alpha, torch.zeros(8, 3, 1, 1))
    assert ok.any()
    assert (new[ok] * (1 - RED.alpha[ok])).flatten(1).std(1).gt(0.02).all()


def test_a_fruit_in_a_colour_that_its_kind_has_is_not_spoilt():
    both = Colours(torch.cat([RED.mean()[:1], YELLOW.mean()[:1]]), torch.tensor([0, 0]))
    assert FRUITS["recoloured"](RED, YELLOW, COLOURS, GROUND)[1].all()
    assert not FRUITS["recoloured"](RED, YELLOW, both, GROUND)[1].any()
    assert COLOURS.distance(RED.mean(), torch.ones(8, dtype=torch.int64)).gt(FAR).all()


def test_fruits_are_moved_by_shares_of_the_side_and_scaled():
    n = torch.ones(8)
    half = moved(RED.alpha, 0.5 * n, 0.25 * n, 0 * n)
    assert half.sum().item() == pytest.approx(RED.alpha.sum().item() / 4, rel=0.05)
    x = (half[0, 0] * torch.arange(64)).sum() / half[0, 0].sum()
    assert x.item() == pytest.approx(31.5 + 16, abs=0.1)
    turned = moved(YELLOW.alpha, n, 0 * n, 0 * n, turn=torch.pi / 2 * n)
    torch.testing.assert_close(turned, YELLOW.alpha.mT, atol=0.6, rtol=0)


def test_a_blur_keeps_the_mean():
    x = torch.zeros(1, 1, 64, 64)
    x[..., 30, 30] = 1
    assert blurred(x, 2.0).sum().item() == pytest.approx(1, abs=1e-3)
    assert blurred(x, 2.0)[0, 0, 30, 30].item() == pytest.approx(1 / (2 * torch.pi * 4), rel=0.02)
