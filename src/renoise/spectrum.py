"""The power spectrum of noise, and noise made fit for an edit.

White noise of unit variance has power 1 at every spatial frequency. The noise that an inversion finds can have a hundred
times as much at the lowest frequencies, which hold the photograph's mean colour and coarsest shapes. The network reads the
colours of a new picture from just these frequencies, and draws it in the old colours. So for an edit the noise is changed,
where the picture may change, by an *editability* e from 0 to 1. At the frequency f, in cycles per longer side,

    λ = exp(−½ [(1 + f) (1 − e) / (S e)]²)            the share that is new: from 0 at e = 0 to 1 at e = 1, first at low f
    x ← √(1 − λ²) · P^(−λ/2) x + λ w                  P is the power of x where that is above 1, and w is fresh noise

At e = 0 the noise draws the photograph, and at e = 1 nothing of the photograph is left. Between, the new picture has its own
colours, then its own shapes, and keeps the finer structure.

Power is the mean over a *ring*: the frequencies of the same rounded distance from 0, in cycles per longer side.
"""

import torch
from torch import Tensor

from renoise.layout import maps, unmaps
from renoise.programs import Inverted
from renoise.schedule import Level

# The rings in which a spectrum is reported, from the first to the last of each band.
BANDS = ((0, 0), (1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 10**6))
SCALE = 2.0  # cycles: S, about the frequency up to which the noise is new at e = 1/2


def power(x: Tensor) -> Tensor:
    """Compute the power of maps (B, C, H, W) in each ring, (B, C, rings)."""
    squares = torch.fft.fft2(x.float(), norm="ortho").abs().square().flatten(2)
    ring = _distance(x).round().long().flatten()
    count = torch.bincount(ring)
    return squares.new_zeros(*x.shape[:2], len(count)).index_add_(2, ring, squares) / count


def relative(x: Tensor, x_0: Tensor, level: Level, aspect: float) -> Tensor:
    """Compare the power of latents with that of noised photographs, α² P(x_0) + σ², in each of `BANDS`.

    Args:
        x: latents (B, ...) at a noise level, or fresh noise with a level of alpha = 0 and sigma = 1.
        x_0: clean latents (B, ...) of the photographs.
        level: the noise level.
        aspect: height / width of the picture.

    Returns:
        The ratio (bands, B), 1 for noise that looks like noise. nan for bands that the maps are too small for.
    """
    found, clean = (power(maps(part, aspect)).mean(1) for part in (x, x_0))
    expected = level.alpha**2 * clean + level.sigma**2
    ring = _distance(maps(x, aspect)).round().long().flatten()
    count = torch.bincount(ring).float()
    bands = [slice(first, last + 1) for first, last in BANDS]
    return torch.stack([(found * count)[:, b].sum(1) / (expected * count)[:, b].sum(1) for b in bands])


def of_inversion(found: Inverted, level: Level, aspect: float) -> Tensor | None:
    """Compare x_T, at its noise level, and the m noises of an inversion with noised photographs, see `relative`.

    Returns:
        The ratios (1 + m, bands, B), x_T first, then the noises from the noisiest step on. None if the latents are no maps.
    """
    x_0, noises = found.trajectory[-1], () if found.noises is None else found.noises
    try:
        maps(x_0, aspect)
    except ValueError:
        return None
    noise = Level(0.0, 1.0, 0.0)
    return torch.stack([relative(found.x_T, x_0, level, aspect), *(relative(z, x_0, noise, aspect) for z in noises)])


def editable(noise: Tensor, fresh: Tensor, editability: Tensor, mask: Tensor | None, aspect: float) -> Tensor:
    """Change noise so that another prompt can draw from it.

    Args:
        noise: x_T or the noise of a step (B, ...).
        fresh: white noise w of the same shape.
        editability: the editability e of each image (B,), in [0, 1].
        mask: the weight (B or 1, 1, H, W) in [0, 1] of the change at each position of the maps. None changes all.
        aspect: height / width of the picture.

    Returns:
        The changed noise (B, ...). An image with e = 0 keeps its noise as it is.
    """
    x, w = maps(noise, aspect).float(), maps(fresh, aspect).to(noise.device, torch.float32)
    e = editability.to(x).reshape(-1, 1, 1, 1)
    m = torch.ones_like(x[:, :1]) if mask is None else mask.to(x).expand(len(x), 1, *x.shape[2:])
    inside, distance = torch.fft.fft2(m * x, norm="ortho"), _distance(x)
    area = m.square().mean((2, 3)).clamp_min(1e-6)  # the power of white noise that is cut out by the mask
    excess = (power(m * x) / area[..., None]).clamp_min(1.0)[..., distance.round().long()]
    share = torch.exp(-0.5 * ((distance + 1) * (1 - e) / (SCALE * e).clamp_min(1e-6)).square())
    keep = (1 - share.square()).sqrt() * excess ** (-0.5 * share)
    removed = torch.fft.ifft2((1 - keep) * inside, norm="ortho").real
    added = torch.fft.ifft2(share * torch.fft.fft2(w, norm="ortho"), norm="ortho").real
    return unmaps((x + m * (added - removed)).to(noise.dtype), noise.shape)


def _distance(x: Tensor) -> Tensor:
    """Return the distance (H, W) of each frequency of maps (B, C, H, W) from 0, in cycles per longer side."""
    longer = max(x.shape[-2:])
    y, x_ = (torch.fft.fftfreq(size, device=x.device) * longer for size in x.shape[-2:])
    return torch.hypot(y[:, None], x_)
