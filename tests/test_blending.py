"""Edits are joined to their photographs in pixels."""

import pytest
import torch

from renoise.blending import join, join_found, without_object

SIZE, CELLS = 128, 32
GREEN, BLUE, RED = ([0.3, 0.6, 0.3], [0.2, 0.4, 0.8], [0.8, 0.2, 0.2])


def colour(rgb: list[float]) -> torch.Tensor:
    return torch.tensor(rgb).reshape(1, 3, 1, 1)


def disk(radius: float, x: float = 64, y: float = 64, size: int = SIZE) -> torch.Tensor:
    """A disk with a soft rim, (1, 1, size, size)."""
    scale = size / SIZE
    grid = torch.arange(size) + 0.5
    distance = torch.hypot(grid[None] - x * scale, grid[:, None] - y * scale)
    return (radius * scale + 0.5 - distance).clamp(0, 1)[None, None]


def on(ground: list[float], rgb: list[float], shape: torch.Tensor) -> torch.Tensor:
    return shape * colour(rgb) + (1 - shape) * colour(ground)


def test_a_mask_of_ones_own_is_kept_to_the_pixel():
    photograph, edited = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :30] = 1
    out = join(edited, photograph, mask)
    assert torch.equal(out[..., :30], edited[..., :30])
    assert torch.equal(out[..., 30:], photograph[..., 30:])


@pytest.mark.parametrize("radius", [24, 44])
def test_a_new_object_may_be_smaller_or_larger_than_the_mask(radius):
    photograph, edited = on(GREEN, RED, disk(34)), on(GREEN, BLUE, disk(radius))
    mask = (disk(34, size=CELLS) > 0.5).float()
    assert (
        join_found(edited, photograph, mask) - edited
    ).abs().max() < 0.05  # no rim of the old one, all of the new one


def test_the_ground_of_an_edit_takes_the_shade_of_the_photographs():
    photograph, edited = on(GREEN, RED, disk(34)), on([0.25, 0.63, 0.35], BLUE, disk(30))
    out = join_found(edited, photograph, (disk(34, size=CELLS) > 0.5).float())
    ground, fruit = disk(32) == 0, disk(28) == 1
    assert (out - colour(GREEN)).abs().amax(1, keepdim=True)[ground].max() < 0.02
    assert (out - colour(BLUE)).abs().amax(1, keepdim=True)[fruit].max() < 0.02


def test_what_an_edit_draws_elsewhere_stays_out():
    photograph, edited = on(GREEN, RED, disk(20, x=40)), on(GREEN, BLUE, torch.maximum(disk(20, x=40), disk(10, x=110)))
    out = join_found(edited, photograph, (disk(20, x=40, size=CELLS) > 0.5).float())
    assert (out[..., 90:] - photograph[..., 90:]).abs().max() < 1e-3


def test_an_object_is_put_on_a_new_ground_without_the_one_that_the_edit_has_drawn_there():
    photograph, edited = on(GREEN, RED, disk(30)), on(BLUE, [0.7, 0.3, 0.2], disk(38, x=70))
    mask = 1 - (disk(30, size=CELLS) > 0.5).float()
    out = join_found(edited, photograph, mask)
    assert (out - on(BLUE, RED, disk(30))).abs().mean() < 0.01
    rim = (disk(33) > 0) & (disk(27) < 1)
    assert (out - on(BLUE, RED, disk(30))).abs().amax(1, keepdim=True)[rim].mean() < 0.05  # and no green rim


def test_an_object_is_kept_whole_though_its_mask_has_a_bite():
    photograph, edited = on(GREEN, RED, disk(30)), on(BLUE, RED, disk(30))
    kept = (disk(30, size=CELLS) > 0.5).float()
    kept[..., 8:16, 16:24] = 0
    out = join_found(edited, photograph, 1 - kept)
    assert (out - edited).abs().mean() < 0.01


def test_an_object_mask_on_a_ground_that_is_not_plain_is_used_as_it_is():
    texture = torch.nn.functional.avg_pool2d(torch.rand(2, 3, SIZE, SIZE), 9, 1, 4) * 3 - 1
    photograph, edited = texture.clamp(0, 1).split(1)
    out = join_found(edited, photograph, disk(20, size=CELLS).round())
    far = disk(34) == 0
    assert torch.equal(out[far.expand_as(out)], photograph[far.expand_as(out)])


def test_an_object_that_fills_the_picture_has_no_ground():
    x, mask = torch.rand(1, 4, 16, 16), torch.zeros(1, 1, 16, 16)
    mask[..., 1:-1, 1:-1] = 1
    assert torch.equal(without_object(x, mask), x)


def test_an_object_is_taken_away_from_its_ground():
    x, mask = on(GREEN, RED, disk(30, size=CELLS)), disk(30, size=CELLS).round()
    assert torch.allclose(without_object(x, mask), colour(GREEN).expand_as(x), atol=0.01)
    assert torch.equal(without_object(x, 1 - mask), x)


def test_a_ground_may_change_evenly_and_a_mask_may_hold_some_of_it():
    light = torch.linspace(-0.12, 0.12, SIZE).reshape(1, 1, SIZE, 1)
    photograph, edited = on(GREEN, RED, disk(30)) + light, on(BLUE, RED, disk(44))
    kept = torch.maximum(disk(28, size=CELLS), disk(12, y=96, size=CELLS)).round()  # below, it holds the ground
    out = join_found(edited, photograph, 1 - kept)
    assert (out - on(BLUE, RED, disk(30)) - disk(30) * light).abs().mean() < 0.01
    assert (out - colour(BLUE))[..., 100:, :].abs().max() < 0.02


def test_pictures_in_half_precision_are_joined_too():
    photograph, edited = on(GREEN, RED, disk(30)), on(BLUE, RED, disk(38))
    for mask in (disk(30, size=CELLS).round(), 1 - disk(30, size=CELLS).round()):
        half = join_found(edited.half(), photograph.half(), mask)
        assert half.dtype == torch.float16
        assert (half - join_found(edited, photograph, mask)).abs().max() < 0.01


def test_on_a_ground_that_is_not_plain_a_mask_is_used_as_it_is():
    photograph = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    photograph = torch.nn.functional.avg_pool2d(photograph, 9, 1, 4) * 3 - 1
    edited, mask = on(BLUE, RED, disk(30)), 1 - (disk(30, size=CELLS) > 0.5).float()
    assert torch.allclose(join_found(edited, photograph.clamp(0, 1), mask), join(edited, photograph.clamp(0, 1), mask))


def test_an_empty_mask_gives_the_photograph_and_a_full_one_the_edit():
    photograph, edited = on(GREEN, RED, disk(34)), on(BLUE, RED, disk(20))
    cells = torch.zeros(1, 1, CELLS, CELLS)
    assert torch.allclose(join_found(edited, photograph, cells), photograph, atol=1e-6)
    assert torch.allclose(join_found(edited, photograph, cells + 1), edited, atol=1e-6)


def test_the_ground_near_a_vignette_is_not_taken_for_the_object():
    grid = (torch.arange(SIZE) + 0.5) / SIZE * 2 - 1
    shade = 0.15 * (grid[None].square() + grid[:, None].square()) / 2
    photograph, edited = on(GREEN, RED, disk(30)) - shade, on(BLUE, RED, disk(30))
    out = join_found(edited, photograph, 1 - disk(30, size=CELLS).round())
    assert (out - colour(BLUE)).abs()[(disk(40) == 0).expand_as(out)].max() < 0.02
