"""ReNoise: iterative noising of a real image (arXiv 2403.14602), written once for every sampler, model and device.

A sampler step reads x_s = a x_t + b out(x_t) + c z (step.py). Inversion looks for the x_t that would have given x_s:

    z^(0) = x_s;   z^(k) = (x_s − b out(z^(k−1)) − c z) / a,   k = 1 … K + 1;   x_t = Σ_k w_k z^(k)

so K = 0 is plain DDIM inversion. The functions here are generators, *programs*: they yield `(latent, step number)` where
the network is to be evaluated and are sent its output. They know no model, prompt, device or library; a driver answers them
(`run` below for a plain function, pipelines/driver.py for any diffusers pipeline). Latents are (B, ...); each image is
decided by itself.
"""

import math
import random
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from renoise import regularize
from renoise.schedule import Level
from renoise.settings import ReNoise
from renoise.step import Step

Result = TypeVar("Result")
Program = Generator[tuple[Tensor, int], Tensor, Result]
Progress = Callable[[int, int], None]

# an image stalls if half of the iterations allowed, but 5 … 15, do not bring its residual below 0.9 of what it was
PATIENCE, PROGRESS = (5, 15), 0.9
NOISE_LIKE = 0.5, 2.0  # standard deviations of an x_T that can be edited
# it diverges if it ends with this many times its least residual, unless that is rounding
GROWTH, NEGLIGIBLE = 2.0, 1e-4
MEMORY, LEAP = 2, 4.0  # Anderson acceleration: earlier answers it looks back on, and the bound of each θ


@dataclass(frozen=True)
class Solution:
    """One solved step: `x_t` (B, ...), ε̂ at the last evaluation, and per image (B,) what it took."""

    x_t: Tensor
    epsilon: Tensor
    residual: Tensor
    iterations: Tensor
    diverged: Tensor


@dataclass(frozen=True)
class Trajectory:
    """An inversion: x_T (B, ...), the noises (m, B, ...) of its stochastic steps or None, and a record per step, noisiest first.

    course       (n, B, ...) the latents after each step; the last are x_0
    residuals    (n, B) ‖z^(k) − z^(k−1)‖/√numel of the accepted iterate, before an edit loss moved it
    iterations   (n, B) network evaluations that the image itself needed in the fixed point
    diverged     (n, B) True where the iterate was not finite or had left a better one behind, and that one was taken
    calls        (n,) evaluations of the whole batch, references and corrections included
    """

    x_T: Tensor
    noises: Tensor | None
    course: Tensor
    residuals: Tensor
    iterations: Tensor
    diverged: Tensor
    calls: Tensor

    def doubts(self, steps: Sequence[Step], tolerance: float, whole: bool = True) -> list[str]:
        """A line for every one of these steps on which some image did not converge, and one if x_T is not like noise.

        `whole` says that the steps go up to pure noise.
        """
        lines = []
        for step, residual, diverged in zip(steps, self.residuals, self.diverged, strict=True):
            where = f"timestep {step.t.time:.0f}: residual {residual.max():.2g}"
            if bool(diverged.any()):
                what = f"the iteration diverged on {int(diverged.sum())} of {len(diverged)} images"
                lines.append(f"{where}; {what}, the best iterate was kept: try more steps or anderson=True")
            elif tolerance > 0 and bool((residual > 10 * tolerance).any()):
                what = f"is far from the tolerance {tolerance:.2g}"
                lines.append(f"{where} {what}: try more steps, more iterations or anderson=True")
        deviations = self.x_T.flatten(1).std(1)
        if whole and not bool(((deviations > NOISE_LIKE[0]) & (deviations < NOISE_LIKE[1])).all()):
            extreme = max(deviations.tolist(), key=lambda std: abs(math.log(max(std, 1e-9))))
            lines.append(f"x_T has standard deviation {extreme:.2g}, noise has 1: edits will suffer; try more steps")
        return lines


def run(program: Program[Result], steps: Sequence[Step], predict: Callable[[Tensor, Level], Tensor]) -> Result:
    """Answer a program with a plain function: predict(x_t, level) -> out."""
    with torch.no_grad():
        try:
            x, i = next(program)
            while True:
                x, i = program.send(predict(x, steps[i].t))
        except StopIteration as end:
            return end.value


def generate(steps: Sequence[Step], x_T: Tensor, noises: Tensor | None = None, start: int = 0) -> Program[Tensor]:
    """Denoise x_T (B, ...) from step number `start` on, with the given noises of its stochastic steps -> x_0."""
    x = x_T
    for i in range(start, len(steps)):
        out = yield x, i
        x = steps[i].denoise(x, out.to(x.dtype), steps[i].z_from(noises, i - start))
    return x


def invert(
    steps: Sequence[Step],
    x_0: Tensor,
    settings: ReNoise,
    *,
    noises: Tensor | None = None,
    references: Tensor | None = None,
    guesses: Tensor | None = None,
    start: int = 0,
    seed: int = 0,
    aspect: float = 1.0,
) -> Program[Trajectory]:
    """The noise of which the sampler would draw x_0 (B, ...): solve and correct every step, from the clean end up to `start`.

    `noises` (m, B, ...), noisiest first, are those of the m stochastic steps; `references` (n, B, ...) the fresh noise of the KL
    references, `guesses` (n, B, ...) that of the first guess "posterior"; `seed` decides the random shifts of the pair loss;
    `aspect` is height / width. ValueError for settings that these steps leave without effect.
    """
    if settings.correction > 0 and not any(step.stochastic for step in steps):
        raise ValueError("correction needs a stochastic sampler (ancestral Euler, LCM, DDPM): set it to 0 for this one")
    x, epsilon, corrected, course, record = x_0, None, [], [], []
    for i in reversed(range(start, len(steps))):
        step, calls, reference = steps[i], 0, None
        z = step.z_from(noises, i - start)
        # its noise will make such a step exact: there is nothing to iterate for
        closed = z is not None and settings.first_guess == "posterior" and math.isinf(settings.correction)
        if settings.lambda_kl > 0 and step.t.alpha > 0 and not closed:
            if references is None:
                raise ValueError("the patch-KL loss needs the noise of its references")
            noised = step.t.alpha * x_0 + step.t.sigma * references[i - start]
            reference = step.epsilon(noised, (yield noised, i).to(x.dtype))
            calls += 1
        guess = x
        if settings.first_guess == "epsilon" and epsilon is not None:
            guess = step.carry(x, epsilon, z)
        elif settings.first_guess == "posterior":
            if guesses is None:
                raise ValueError('first_guess "posterior" needs its noise')
            w = guesses[i - start]
            if x is x_0:  # there is no noise in it yet
                guess = step.t.alpha * x_0 + step.t.sigma * w
            else:
                guess, drawn = step.posterior(x_0, x, w)
                z = z if z is None else drawn
        if closed:
            none = torch.zeros(len(guess), device=guess.device)
            solution, tries = Solution(guess, torch.zeros_like(guess), none, none.long(), none > 0), 0
        else:
            solution, tries = yield from solve(step, i, x, guess, z, settings, reference, seed, aspect)
        calls, epsilon, diverged = calls + tries, solution.epsilon, solution.diverged
        if z is not None:
            if settings.correction > 0:
                out = (yield solution.x_t, i).to(x.dtype)
                finite = _rms(out).isfinite()
                z = torch.where(_wide(finite, z), correct(step, solution.x_t, x, out, z, settings.correction), z)
                epsilon = torch.where(_wide(finite, z), step.epsilon(solution.x_t, out), epsilon)
                calls, diverged = calls + 1, diverged | ~finite
            corrected.append(z)
        course.append(x)
        x = solution.x_t
        record.append((solution.residual, solution.iterations, diverged, torch.tensor(calls)))
    residuals, iterations, diverged, calls = (torch.stack(column[::-1]) for column in zip(*record, strict=True))
    noises = torch.stack(corrected[::-1]) if corrected else None
    return Trajectory(x, noises, torch.stack(course[::-1]), residuals, iterations, diverged, calls)


def solve(
    step: Step,
    i: int,
    x_s: Tensor,
    guess: Tensor,
    z: Tensor | None,
    settings: ReNoise,
    reference: Tensor | None = None,
    seed: int = 0,
    aspect: float = 1.0,
) -> Program[tuple[Solution, int]]:
    """The fixed point of one inversion step, from `guess` = z^(0), and the evaluations it took. All latents (B, ...)."""
    weights = settings.weights(step.t.time)
    last = max(k for k, weight in enumerate(weights, start=1) if weight > 0)  # what follows would count for nothing
    patience = min(max(PATIENCE[0], last // 2), PATIENCE[1])
    # at alpha = 0 the network's output says nothing of the noise
    regularized = settings.regularized and step.t.alpha > 0
    images = torch.zeros(len(x_s), device=x_s.device)  # what follows is per image
    spent, iterations, stale, mark, least, residual = images, images, images, *(images + math.inf for _ in range(3))
    active, diverged, whitened, grown = images == 0, *(images > 0 for _ in range(3))
    x, x_t, epsilon, best = guess, torch.zeros_like(x_s), torch.zeros_like(x_s), x_s
    pairs, k = deque(maxlen=MEMORY + 1 if settings.anderson else 1), 0
    for k, weight in enumerate(weights, start=1):
        out = (yield x, i).to(x.dtype)
        seen, new = step.epsilon(x, out), step.renoise(x_s, out, z)

        change = _rms(new - x)
        finite, judged = change.isfinite(), active & ~whitened  # an edit loss takes an iterate out of the sequence
        settled = judged & (change < settings.tolerance)
        better = judged & finite & (change < least)
        best, least = torch.where(_wide(better, x), new, best), torch.where(better, change, least)
        progress = change < PROGRESS * mark
        mark, stale = torch.where(progress, change, mark), torch.where(progress, 0, stale + 1)
        # half precision stalls for good, at its rounding; other plateaus may be left again, hence the patience
        stalled = judged & (stale >= patience) & (settings.tolerance > 0)
        done = active & (settled | stalled | ~finite | (k == last))

        due = active & finite & (done | (weight > 0)) & regularized
        if due.any():
            rolls, pair, kl = random.Random(f"{seed}/{i}/{k}"), settings.lambda_pair, settings.lambda_kl
            moved = regularize.whiten(seen, reference, pair=pair, kl=kl, rolls=rolls, aspect=aspect)
            new = torch.where(_wide(due, x), step.renoise(x_s, step.output(x, moved), z), new)
        whitened = due

        iterations = iterations + active
        epsilon = torch.where(_wide(active & finite, x), seen, epsilon)
        share = torch.where(done, 1 - spent, weight) * (active & finite)
        spent, x_t = spent + share, torch.where(_wide(share > 0, x), x_t + _wide(share, x) * new, x_t)
        grown = torch.where(judged, ~settled & (change > GROWTH * least.clamp_min(NEGLIGIBLE)), grown)
        astray = done & (~finite | grown)
        x_t = torch.where(_wide(astray, x), best, x_t)
        residual = torch.where(done, torch.where(astray, least, change), residual)
        diverged, active = diverged | astray, active & ~done
        if not active.any():
            break
        pairs.append((x, new))
        following = _anderson(pairs) if len(pairs) > 1 else new
        x = torch.where(_wide(active, x), following, x)
    return Solution(x_t, epsilon, residual, iterations.long(), diverged), k


def correct(step: Step, x_t: Tensor, x_s: Tensor, out: Tensor, z: Tensor, length: float) -> Tensor:
    """Noise correction: z moved towards the noise that makes the step exact, by at most length · √numel (section 3.5)."""
    move = step.noise(x_t, x_s, out) - z
    scale = (length / _rms(move).clamp_min(torch.finfo(z.dtype).tiny)).clamp_max(1.0)
    return z + _wide(scale, z) * move


def noises(seed: int, purpose: str, count: int, like: Tensor) -> Tensor:
    """Standard normal noises (count, B, ...) for latents `like` (B, ...), decided by seed and purpose.

    Purposes are "sampler", "reference" and "guess". Drawn on the CPU and the same for every image: neither device nor batch
    changes them.
    """
    generator = torch.Generator().manual_seed(seed + (("sampler", "reference", "guess").index(purpose) << 40))
    drawn = torch.randn(count, 1, *like.shape[1:], generator=generator)
    return drawn.expand(-1, len(like), *like.shape[1:]).to(like.device)


def watched(program: Program[Result], steps: int, progress: Progress | None) -> Program[Result]:
    """The program of `steps` steps, telling `progress` (evaluations made, evaluations expected) after every answer.

    What is still to come is guessed from the steps begun so far.
    """
    if progress is None:
        return (yield from program)
    answered, begun = 0, set()
    try:
        question = next(program)
        while True:
            out = yield question
            answered += 1
            begun.add(question[1])
            progress(answered, round(answered * steps / len(begun)))
            question = program.send(out)
    except StopIteration as end:
        progress(answered, answered)
        return end.value


def _anderson(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The next latent to ask about, by Anderson acceleration, from pairs (latent asked about, answer), the newest last.

    The last residual, answer − asked, is fitted by the residuals' changes; as much of the answers' changes comes off the last.
    """
    asked, answers = (torch.stack(side, -1).flatten(1, -2) for side in zip(*pairs, strict=True))  # (B, numel, pairs)
    f, moves = answers - asked, answers.diff()
    d = f.diff()
    # (not matrix products, for autocast and TF32; and pinv would raise at what is not finite)
    products = ((d.unsqueeze(-1) * part.unsqueeze(-2)).sum(1) for part in (d, f[..., -1:]))
    gram, right = (m.cpu().double().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0) for m in products)
    theta = (torch.linalg.pinv(gram, rtol=1e-6, hermitian=True) @ right).clamp(-LEAP, LEAP).to(f)
    return (answers[..., -1] - (moves * theta.mT).sum(-1)).view_as(pairs[-1][0])


def _rms(x: Tensor) -> Tensor:
    """‖x‖/√numel of each image: (B, ...) -> (B,)."""
    return x.flatten(1).to(torch.promote_types(x.dtype, torch.float32)).square().mean(1).sqrt()


def _wide(value: Tensor, like: Tensor) -> Tensor:
    """A value per image, (B,) -> (B, 1, ...), to be broadcast over latents like `like`."""
    return value.reshape(-1, *(1,) * (like.ndim - 1))
