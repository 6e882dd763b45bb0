"""Spoilt photographs: what the judge must reject, made of real photographs as failed edits look.

A batch of cut-out fruits is spoilt in one of the ways of `FRUITS`, a batch of backgrounds in one of those of `GROUNDS`. Each
gives the spoilt ones and which of them cannot be taken for sound: a tomato turned orange is a sound tomato, and is not used.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

FAR = 0.22  # distance of two colours, RGB in [0, 1], that nobody confuses


@dataclass
class Fruits:
    """Cut-out fruits: colours (N, 3, S, S) in [0, 1], opacity (N, 1, S, S), and the number of their kind (N,)."""

    rgb: Tensor
    alpha: Tensor
    kind: Tensor

    def mean(self) -> Tensor:
        """Mean colours (N, 3)."""
        return (self.rgb * self.alpha).sum((2, 3)) / self.alpha.sum((2, 3)).clamp(min=1)

    def filled(self) -> Tensor:
        """The colours (N, 3, S, S) with the mean colour around the fruits."""
        return self.rgb * self.alpha + self.mean()[..., None, None] * (1 - self.alpha)

    def __getitem__(self, chosen: Tensor) -> "Fruits":
        return Fruits(self.rgb[chosen], self.alpha[chosen], self.kind[chosen])


class Colours:
    """The mean colours of real photographs of each kind."""

    def __init__(self, means: Tensor, kinds: Tensor) -> None:
        self.means, self.kinds = means, kinds

    def distance(self, colour: Tensor, kind: Tensor) -> Tensor:
        """Distances (N,) of colours (N, 3) from the nearest photograph of the same kind."""
        apart = torch.cdist(colour, self.means)
        return torch.where(kind[:, None] == self.kinds[None], apart, 9.0).amin(1)


def uniform(n: int, low: float, high: float) -> Tensor:
    """Random numbers (n, 1, 1, 1)."""
    return torch.empty(n, 1, 1, 1).uniform_(low, high)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of x (N, C, S, S)."""
    place = torch.arange(x.shape[-1], dtype=torch.float32)
    w = torch.exp(-0.5 * ((place[:, None] - place[None]) / sigma) ** 2)
    w = w / w.sum(1, keepdim=True)
    return w @ x @ w.T


def moved(
    x: Tensor,
    scale: Tensor,
    dx: Tensor,
    dy: Tensor,
    turn: Tensor | None = None,
    mirror: Tensor | None = None,
    stretch: Tensor | None = None,
) -> Tensor:
    """Scale x (N, C, S, S), and move it by shares of its side; zeros come in from outside. All numbers are (N,)."""
    one = torch.ones_like(scale)
    turn, mirror, stretch = (0 * one if turn is None else turn), *(one if v is None else v for v in (mirror, stretch))
    cos, sin = turn.cos() / scale, turn.sin() / scale
    x0, y0, across, down = -2 * dx, -2 * dy, mirror * stretch, 1 / stretch
    rows = [across * cos, across * sin, across * (cos * x0 + sin * y0)]
    rows += [-down * sin, down * cos, down * (-sin * x0 + cos * y0)]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def over(top: Fruits, below: Fruits, kind: Tensor) -> Fruits:
    """One cut-out in front of another."""
    alpha = top.alpha + below.alpha * (1 - top.alpha)
    rgb = top.rgb * top.alpha + below.rgb * below.alpha * (1 - top.alpha)
    return Fruits(rgb / alpha.clamp(min=1e-3), alpha, kind)


def _shift(fruits: Fruits, scale: Tensor, dx: Tensor, dy: Tensor) -> Fruits:
    both = moved(torch.cat([fruits.rgb * fruits.alpha, fruits.alpha], 1), scale, dx, dy)
    return Fruits(both[:, :3] / both[:, 3:].clamp(min=1e-3), both[:, 3:], fruits.kind)


def burnt(a: Fruits, b: Fruits, colours: Colours, ground: Tensor) -> tuple[Fruits, Tensor]:
    """Far too much contrast or colour."""
    n, mean, grey = len(a.rgb), a.mean()[..., None, None], a.rgb.mean(1, keepdim=True)
    new = mean + uniform(n, 1.5, 3.5) * (a.rgb - mean)
    new = torch.where(torch.rand(n, 1, 1, 1) < 0.5, new, grey + uniform(n, 1.5, 3) * (a.rgb - grey)).clamp(0, 1)
    changed = ((new - a.rgb).abs().mean(1, keepdim=True) * a.alpha).sum((1, 2, 3)) / a.alpha.sum((1, 2, 3)).clamp(min=1)
    return Fruits(new, a.alpha, a.kind), changed > 0.1


def dark(a: Fruits, b: Fruits, colours: Colours, ground: Tensor) -> tuple[Fruits, Tensor]:
    """Black or very dark."""
    new = Fruits(a.rgb * uniform(len(a.rgb), 0.03, 0.45), a.alpha, a.kind)
    return new, colours.distance(new.mean(), a.kind) > FAR


def tinted(a: Fruits, b: Fruits, colours: Colours, ground: Tensor) -> tuple[Fruits, Tensor]:
    """Of a hue that the kind never has: turned around the grey axis, channels exchanged, or towards another colour."""
    n = len(a.rgb)
    angle = torch.empty(n).uniform_(0.6, 5.7)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None] / 3**0.5
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    matrix = cos * torch.eye(3) + (1 - cos) / 3 * torch.ones(3, 3) + sin * cross
    turned = torch.einsum("nij,njhw->nihw", matrix, a.rgb)
    towards = a.rgb + uniform(n, 0.5, 1) * (torch.rand(n, 3, 1, 1) - a.mean()[..., None, None])
    new = Fruits(torch.where(torch.rand(n, 1, 1, 1) < 0.5, turned, towards).clamp(0, 1), a.alpha, a.kind)
    return new, colours.distance(new.mean(), a.kind) > FAR


def stained(a: Fruits, b: Fruits, colours: Colours, ground: Tensor) -> tuple[Fruits, Tensor]:
    """With large spots of colours of other fruits or backgrounds."""
    n, side = len(a.rgb), a.rgb.shape[-1]
    spots = F.interpolate(torch.randn(n, 1, 4, 4), (side, side), mode="bicubic").mul(3).sigmoid()
    colour = torch.where(torch.rand(n, 1, 1, 1) < 0.5, b.mean()[..., None, None], ground)
    share = spots * uniform(n, 0.5, 1)
    ok = colours.distance(colour[..., 0, 0], a.kind) > FAR
    return Fruits(a.rgb * (1 - share) + colour * share, a.alpha, a.kind), ok


def doubled(a: Fruits, b: Fruits, colours: Colours, ground: Tensor) -> tuple[Fruits, Tensor]:
    """With a second fruit, of its own or another kind, partly behind it."""
    n = len(a.rgb)
    own = torch.rand(n, 1, 1, 1) < 0.5
    other = Fruits(torch.where(own, a.rgb, b.rgb), torch.where(own, a.alpha, b.alpha), a.kind)
    turn = torch.rand(n) * 6.28
    size, apart = torch.empty(n).uniform_(0.55, 0.85), torch.empty(n).uniform_(0.2, 0.4)
    dx, dy = apart * turn.cos(), apart * turn.sin()
    front = _shift(a, torch.empty(n).uniform_(0.6, 0.8), -dx / 2, -dy / 2)
    behind = _shift(other, size, dx / 2, dy / 2)
    seen = (behind.alpha * (1 - front.alpha)).sum((1, 2, 3)) / front.alpha.sum((1, 2, 3)).clamp(min=1)
    return over(front, behind, a.kind), seen > 0.12


def mixed(a: Fruits, b: Fruits, colours: Colours, ground: Tensor) -> tuple[Fruits, Tensor]:
    """Two fruits at once, each half transparent."""
    share = uniform(len(a.rgb), 0.3, 0.7)
    alpha = a.alpha * share + b.alpha * (1 - share)
    rgb = (a.rgb * a.alpha * share + b.rgb * b.alpha * (1 - share)) / alpha.clamp(min=1e-3)
    return Fruits(rgb, torch.maximum(alpha, (alpha > 0.1).float() * uniform(len(share), 0.5, 1)), a.kind), _differ(a, b)


def refilled(a: Fruits, b: Fruits, colours: Colours, ground: Tensor) -> tuple[Fruits, Tensor]:
    """The outline of one fruit, filled with another."""
    both, either = torch.minimum(a.alpha, b.alpha).sum((1, 2, 3)), torch.maximum(a.alpha, b.alpha).sum((1, 2, 3))
    return Fruits(b.filled(), a.alpha, a.kind), (a.kind != b.kind) & (both / either.clamp(min=1) < 0.72)


def recoloured(a: Fruits, b: Fruits, colours: Colours, ground: Tensor) -> tuple[Fruits, Tensor]:
    """The detail of one fruit in the colours of another."""
    wide, base = blurred(b.filled(), 5.0), blurred(a.filled(), 5.0)
    new = Fruits((wide + a.rgb - base).clamp(0, 1), a.alpha, a.kind)
    return new, colours.distance(new.mean(), a.kind) > FAR


def halved(a: Fruits, b: Fruits, colours: Colours, ground: Tensor) -> tuple[Fruits, Tensor]:
    """One half of one fruit, the other half of another, inside one outline."""
    share, _ = _side(len(a.rgb), a.rgb.shape[-1], soft=uniform(len(a.rgb), 1, 10))
    alpha = torch.where(torch.rand(len(share), 1, 1, 1) < 0.5, a.alpha, a.alpha * share + b.alpha * (1 - share))
    return Fruits(a.rgb * share + b.filled() * (1 - share), alpha, a.kind), _differ(a, b)


def cut(a: Fruits, b: Fruits, colours: Colours, ground: Tensor) -> tuple[Fruits, Tensor]:
    """A part is missing: beyond a line, or in a spot."""
    n, side = len(a.rgb), a.rgb.shape[-1]
    line, _ = _side(n, side, soft=uniform(n, 6, 40))
    spot = 1 - (F.interpolate(torch.randn(n, 1, 3, 3), (side, side), mode="bicubic") * 8 - 3).sigmoid()
    keep = torch.where(torch.rand(n, 1, 1, 1) < 0.6, line, spot)
    left = (a.alpha * keep).sum((1, 2, 3)) / a.alpha.sum((1, 2, 3)).clamp(min=1)
    return Fruits(a.rgb, a.alpha * keep, a.kind), (left < 0.82) & (left > 0.1) & _seen(a, ground)


def rimmed(a: Fruits, b: Fruits, colours: Colours, ground: Tensor) -> tuple[Fruits, Tensor]:
    """Another fruit shows around it, as a rim or a ghost."""
    n = len(a.rgb)
    front = _shift(a, torch.empty(n).uniform_(0.5, 0.95), *(torch.empty(2, n).uniform_(-0.15, 0.15)))
    ghost = Fruits(b.rgb, b.alpha * uniform(n, 0.4, 1), b.kind)
    seen = (ghost.alpha * (1 - front.alpha)).sum((1, 2, 3)) / front.alpha.sum((1, 2, 3)).clamp(min=1)
    return over(front, ghost, a.kind), (seen > 0.15) & _seen(b, ground) & _differ(a, b)


def foggy(a: Fruits, b: Fruits, colours: Colours, ground: Tensor) -> tuple[Fruits, Tensor]:
    """Half transparent."""
    return Fruits(a.rgb, a.alpha * uniform(len(a.rgb), 0.15, 0.65), a.kind), _seen(a, ground)


def missing(a: Fruits, b: Fruits, colours: Colours, ground: Tensor) -> tuple[Fruits, Tensor]:
    """No fruit at all."""
    return Fruits(a.rgb, a.alpha * 0, a.kind), torch.ones(len(a.rgb), dtype=torch.bool)


def melted(a: Fruits, b: Fruits, colours: Colours, ground: Tensor) -> tuple[Fruits, Tensor]:
    """Without any detail, its outline lost."""
    both = blurred(torch.cat([a.rgb * a.alpha, a.alpha], 1), float(torch.empty(1).uniform_(4, 8)))
    return Fruits(both[:, :3] / both[:, 3:].clamp(min=1e-3), both[:, 3:], a.kind), _seen(a, ground)


FRUITS = {
    f.__name__: f
    for f in (burnt, dark, tinted, stained, doubled, mixed, refilled, recoloured, halved, cut, rimmed, foggy, missing, melted)
}  # fmt: skip


def patched(canvas: Tensor, cover: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
    """A part of the background is of another colour."""
    n, side = len(canvas), canvas.shape[-1]
    line, _ = _side(n, side, soft=uniform(n, 1.5, 40))
    spot = (F.interpolate(torch.randn(n, 1, 3, 3), (side, side), mode="bicubic") * 6 - 2).sigmoid()
    share = torch.where(torch.rand(n, 1, 1, 1) < 0.5, line, spot) * uniform(n, 0.5, 1)
    return _towards(canvas, cover, colour, share)


def haloed(canvas: Tensor, cover: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
    """The background around the fruit is of another colour."""
    reach = int(torch.randint(2, 9, (1,)))
    wide = F.max_pool2d(cover, 2 * reach + 1, 1, reach)
    share = blurred(wide, float(torch.empty(1).uniform_(0.5, 3))) * uniform(len(canvas), 0.5, 1)
    frayed = F.interpolate(torch.randn(len(canvas), 1, 24, 24), cover.shape[-2:], mode="bicubic").mul(6).sigmoid()
    share = share * torch.where(torch.rand(len(canvas), 1, 1, 1) < 0.4, frayed, 1)
    return _towards(canvas, cover, colour, share)


GROUNDS = {f.__name__: f for f in (patched, haloed)}


def _towards(canvas: Tensor, cover: Tensor, colour: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    new = canvas * (1 - share) + colour * share
    changed = (((new - canvas).square().sum(1, keepdim=True).sqrt() > 0.15) * (1 - cover)).mean((1, 2, 3))
    same = (((new - canvas).square().sum(1, keepdim=True).sqrt() <= 0.08) * (1 - cover)).mean((1, 2, 3))
    return new, (changed > 0.04) & (same > 0.04)


def _side(n: int, side: int, soft: Tensor) -> tuple[Tensor, Tensor]:
    """Masks (n, 1, side, side) of one side of a random line through the middle third; larger `soft` is a sharper edge."""
    turn = torch.rand(n, 1, 1, 1) * 6.28
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    along = x * turn.cos() + y * turn.sin() + uniform(n, -0.3, 0.3)
    return (along * soft).sigmoid(), turn


def _differ(a: Fruits, b: Fruits) -> Tensor:
    """Which pairs are of two kinds and of two colours."""
    return (a.kind != b.kind) & ((a.mean() - b.mean()).square().sum(1).sqrt() > FAR)


def _seen(a: Fruits, ground: Tensor) -> Tensor:
    """Which fruits differ from their backgrounds (N, 3, 1, 1)."""
    return (a.mean() - ground[..., 0, 0]).square().sum(1).sqrt() > FAR
