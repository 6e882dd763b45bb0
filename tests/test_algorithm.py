"""The algorithm on a model that is known exactly: data from a mixture of two Gaussians, whose noise prediction is a formula."""

import math

import pytest
import torch
from torch import Tensor

from renoise import algorithm
from renoise.methods.renoise import ReNoise
from renoise.prediction import EPSILON, FLOW, V_PREDICTION, Prediction
from renoise.programs import Photograph, drive_from, generate, run
from renoise.samplers import DDIM, LCM, Sampler
from renoise.schedule import Level, Schedule
from renoise.step import Step, plan

SPREAD = 0.5
SHAPE = (4, 8, 8)


def steps(count: int, sampler: Sampler = DDIM(), prediction: Prediction = EPSILON) -> tuple[Step, ...]:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas_cumprod = torch.cumprod(1 - betas, 0)
    times = [1000 * (count - i) // count - 1 for i in range(count)]
    if prediction is FLOW:
        schedule = Schedule.flow([(count - i) / count for i in range(count + 1)], [*map(float, times), 0.0])
    else:
        schedule = Schedule.preserving([*(alphas_cumprod[t].item() for t in times), 1.0], [*map(float, times), 0.0])
    return plan(schedule, sampler, prediction)


class Mixture:
    """E[eps | x_t] for x_0 ~ ½ N(m, s²) + ½ N(−m, s²), read out as `prediction`; counts its calls."""

    def __init__(self, prediction: Prediction = EPSILON, dtype: torch.dtype = torch.float64) -> None:
        self.mean = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
        self.prediction, self.calls = prediction, 0

    def data(self, images: int, seed: int = 0) -> Tensor:
        noise = torch.randn(images, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return self.mean + SPREAD * noise.to(self.mean.dtype)

    def __call__(self, x: Tensor, t: Level) -> Tensor:
        self.calls += 1
        variance = (t.alpha * SPREAD) ** 2 + t.sigma**2
        side = torch.tanh(t.alpha * (x * self.mean).flatten(1).sum(1) / variance).reshape(-1, 1, 1, 1)
        x_0 = side * self.mean + t.alpha * SPREAD**2 / variance * (x - t.alpha * side * self.mean)
        p, q = self.prediction.x_0(t)
        return (x_0 - p * x) / q


def noise(count: int, like: Tensor, seed: int = 5) -> Tensor:
    return torch.randn(count, *like.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(
        like.dtype
    )


def round_trip(settings: ReNoise, count: int = 10, sampler: Sampler = DDIM(), prediction: Prediction = EPSILON):
    model, grid = Mixture(prediction), steps(count, sampler, prediction)
    x_0 = model.data(3)
    found = run(settings.prepare(grid, 0).invert(grid, Photograph(x_0)), grid, model)
    calls = model.calls
    back = run(generate(grid, found.x_T, found.noises), grid, model)
    return found, calls, ((back - x_0).norm() / x_0.norm()).item()


EXACT = ReNoise(iterations=200, tolerance=1e-12)


@pytest.mark.parametrize("prediction", [EPSILON, V_PREDICTION, FLOW], ids=lambda p: p.name)
@pytest.mark.parametrize("anderson", [False, True])
@pytest.mark.parametrize("guess", ["latent", "epsilon"])
def test_round_trip_is_exact_where_the_iteration_converges(prediction, anderson, guess):
    settings = ReNoise(iterations=200, tolerance=1e-12, anderson=anderson, first_guess=guess)
    found, _, error = round_trip(settings, prediction=prediction)
    assert error < 1e-9
    assert not found.diverged.any()
    assert (found.residuals < 1e-12).all()


def test_anderson_acceleration_solves_a_map_of_two_rates_at_once():
    (step,) = steps(1)
    x_0, rates = Mixture().data(2), torch.full(SHAPE, -0.5, dtype=torch.float64)
    rates[:, :, ::2] = 0.7

    def linear(x: Tensor, t: Level) -> Tensor:
        return rates * x * step.a / -step.b

    def iterations(anderson: bool) -> int:
        settings = ReNoise(iterations=99, tolerance=1e-9, anderson=anderson)
        found = run(settings.invert((step,), Photograph(x_0)), (step,), linear)
        torch.testing.assert_close(found.x_T, x_0 / step.a / (1 - rates), rtol=1e-7, atol=1e-7)
        return int(found.iterations.max())

    assert iterations(False) > 40
    assert iterations(True) <= 5


def test_anderson_acceleration_does_not_leap_far_where_answers_hardly_change():
    (step,) = steps(1)
    asked: list[Tensor] = []

    def linear(x: Tensor, t: Level) -> Tensor:
        asked.append(x)
        return 0.999 * x * step.a / -step.b

    settings = ReNoise(iterations=3, tolerance=1e-9, anderson=True, first_guess="latent")
    run(settings.invert((step,), Photograph(Mixture().data(1))), (step,), linear)
    first, second, third = asked[-3:]
    change = (second - first).norm()  # the line through the answers would lead a thousand times as far
    assert 4 * change < (third - second).norm() < 6 * change


def test_no_renoising_is_plain_ddim_inversion():
    model, grid = Mixture(), steps(10)
    x = x_0 = model.data(2)
    found = run(ReNoise(iterations=0, tolerance=0).invert(grid, Photograph(x_0)), grid, model)
    for step in reversed(grid):  # DDIM inversion as everyone writes it
        eps = model(x, step.t)
        x = step.t.alpha * (x - step.s.sigma * eps) / step.s.alpha + step.t.sigma * eps
    torch.testing.assert_close(found.x_T, x, rtol=1e-10, atol=1e-10)
    assert found.calls.tolist() == [1] * 10


def test_more_renoising_is_closer():
    errors = [round_trip(ReNoise(iterations=k, tolerance=0))[2] for k in (0, 1, 3, 9)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 20


def test_long_renoised_strides_beat_short_plain_ones_at_equal_calls():
    _, calls_plain, plain = round_trip(ReNoise(iterations=0, tolerance=0), count=40)
    _, calls_renoised, renoised = round_trip(ReNoise(iterations=3, tolerance=0), count=10)
    assert calls_plain == calls_renoised == 40
    assert renoised < plain


@pytest.mark.parametrize("sampler", [DDIM(1.0), DDIM(0.5), LCM(), LCM(math.inf)], ids=repr)
def test_override_correction_reconstructs_whatever_the_iteration_reached(sampler):
    # the corrected noise is exact wherever a step draws noise; the last, noiseless step needs its own fixed point
    grid, model = steps(6, sampler), Mixture()
    x_0 = model.data(2)
    found = run(
        ReNoise(iterations=1, tolerance=0, noise_correction=math.inf).invert(grid, Photograph(x_0)), grid, model
    )
    reached = run(generate(grid[:-1], found.x_T, found.noises), grid, model)
    solved = run(algorithm.solve(grid[-1], 5, x_0, x_0, weights=(0, 1)), grid, model)
    torch.testing.assert_close(reached, solved.x_t, rtol=1e-8, atol=1e-8)


def test_tender_correction_moves_the_noise_no_further_than_its_length():
    grid, model = steps(6, DDIM(1.0)), Mixture()
    x_0 = model.data(2)
    noises = Photograph(x_0).noise("sampler", 5)
    settings = ReNoise(iterations=1, tolerance=0, noise_correction=0.14)
    found = run(settings.invert(grid, Photograph(x_0)), grid, model)
    moved = (found.noises - noises).flatten(2).square().mean(2).sqrt()
    assert (moved < 0.14 + 1e-9).all()
    assert moved.max() > 0.13
    assert found.calls.tolist() == [3] * 5 + [
        2
    ]  # two in the fixed point and one to correct; the last step draws no noise


@pytest.mark.parametrize(
    "settings",
    [
        ReNoise(iterations=40, tolerance=1e-3),
        ReNoise(iterations=40, tolerance=1e-3, anderson=True),
        ReNoise(iterations=9, tolerance=0, lambda_pair=5, lambda_kl=0.05),
    ],
)
def test_an_image_of_a_batch_is_inverted_as_if_alone(settings):
    model, grid = Mixture(), steps(8)
    x_0 = torch.cat([model.data(1), model.data(1, seed=2) * 0.3, torch.zeros(1, *SHAPE, dtype=torch.float64)])
    batch = run(settings.invert(grid, Photograph(x_0)), grid, model)
    for i in range(3):
        alone = run(settings.invert(grid, Photograph(x_0[i : i + 1])), grid, model)
        torch.testing.assert_close(batch.x_T[i : i + 1], alone.x_T, rtol=1e-9, atol=1e-9)
        assert batch.iterations[:, i].tolist() == alone.iterations[:, 0].tolist()


def test_calls_are_the_evaluations_that_were_made():
    for settings in (ReNoise(iterations=3, tolerance=0), EXACT, ReNoise(iterations=3, tolerance=0, lambda_kl=0.05)):
        model, grid = Mixture(), steps(5)
        x_0 = model.data(2)
        found = run(settings.invert(grid, Photograph(x_0)), grid, model)
        assert found.calls.sum() == model.calls
    assert model.calls == 5 * (4 + 1)  # the KL reference costs one


def test_averaging_is_the_weighted_mean_of_the_estimates():
    model, (step,) = Mixture(), steps(1)
    x_0, weights = model.data(1), (0.1, 0.2, 0.7)
    estimates, x = [], x_0
    for _ in weights:
        x = step.renoise(x_0, model(x, step.t))
        estimates.append(x)
    settings = ReNoise(iterations=2, tolerance=0, weights_high=weights)
    found = run(settings.invert((step,), Photograph(x_0)), (step,), model)
    torch.testing.assert_close(found.x_T, sum(w * z for w, z in zip(weights, estimates, strict=True)))


def test_the_boundary_parts_the_weights():
    settings = ReNoise(iterations=1, weights_low=(0.5, 0.5), weights_high=(0, 1))
    assert settings.weights(249) == (0.5, 0.5)
    assert settings.weights(250) == (0, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_non_finite_iterate_falls_back_to_the_best_finite_one_and_is_flagged(bad):
    class Breaking(Mixture):
        def __call__(self, x: Tensor, t: Level) -> Tensor:
            out = super().__call__(x, t)
            if self.calls == 3:
                out[1] = bad
            return out

    model, grid = Breaking(), steps(1)
    x_0 = model.data(2)
    found = run(ReNoise(iterations=5, tolerance=0).invert(grid, Photograph(x_0)), grid, model)
    assert found.x_T.isfinite().all()
    assert found.diverged.tolist() == [[False, True]]
    second = run(ReNoise(iterations=1, tolerance=0).invert(grid, Photograph(x_0)), grid, Mixture())
    torch.testing.assert_close(found.x_T[1], second.x_T[1])


def test_a_diverging_iteration_keeps_its_best_iterate_and_is_flagged():
    (step,), x_0 = steps(1), Mixture().data(1)

    def repelling(x: Tensor, t: Level) -> Tensor:
        return 3 * x * step.a / -step.b

    found = run(ReNoise(iterations=15, tolerance=0).invert((step,), Photograph(x_0)), (step,), repelling)
    torch.testing.assert_close(found.x_T, step.renoise(x_0, repelling(x_0, step.t)))
    assert found.diverged.any()
    assert found.x_T.isfinite().all()


@pytest.mark.parametrize("time", [100.0, 900.0])
def test_divergence_is_flagged_under_the_papers_averaging_and_edit_losses_too(time):
    (step,) = plan(Schedule((Level.preserving(0.1, time), Level.preserving(1.0, 0.0))), DDIM(), EPSILON)
    weights = dict(weights_low=(0, 0, 0, 0, 0, 0.5, 0.5), weights_high=(0, 0, 0, 0, 0, 0, 1))
    settings = ReNoise(iterations=6, tolerance=0, lambda_pair=10, **weights)

    def repelling(x: Tensor, t: Level) -> Tensor:
        return 3 * x * step.a / -step.b

    found = run(settings.invert((step,), Photograph(Mixture().data(2))), (step,), repelling)
    assert found.diverged.all()


def test_no_iterate_is_made_that_the_mean_leaves_out():
    model, (step,) = Mixture(), steps(1)
    x_0, weights = model.data(1), (0.5, 0.5, 0, 0, 0, 0)
    long, short = (
        run(settings.invert((step,), Photograph(x_0)), (step,), model)
        for settings in (
            ReNoise(iterations=5, tolerance=0, weights_high=weights),
            ReNoise(iterations=1, tolerance=0, weights_high=weights[:2]),
        )
    )
    assert torch.equal(long.x_T, short.x_T)
    assert torch.equal(long.residuals, short.residuals)
    assert (long.calls.tolist(), short.calls.tolist()) == ([2], [2])


def test_rounding_ends_the_iteration_when_the_residual_stalls():
    class Half(Mixture):
        def __call__(self, x: Tensor, t: Level) -> Tensor:
            return super().__call__(x.bfloat16().double(), t)

    model, grid = Half(), steps(10)
    found = run(ReNoise(iterations=500, tolerance=1e-9).invert(grid, Photograph(model.data(1))), grid, model)
    assert model.calls < 250
    assert found.residuals.max() < 0.02


def test_partial_inversion_starts_where_it_stopped():
    model, grid = Mixture(), steps(10)
    x_0 = model.data(1)
    taken = grid[6:]
    found = run(drive_from(EXACT.invert(taken, Photograph(x_0)), 6, 10), grid, model)
    assert len(found.calls) == 4
    back = run(drive_from(generate(taken, found.x_T), 6, 10), grid, model)
    torch.testing.assert_close(back, x_0, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        (dict(iterations=-1), "iterations"),
        (dict(tolerance=-1.0), "tolerance"),
        (dict(tolerance=math.nan), "tolerance"),
        (dict(iterations=2, weights_low=(1.0,)), "weights_low"),
        (dict(iterations=1, weights_high=(0.5, 0.4)), "weights_high"),
        (dict(first_guess="nothing"), "first_guess"),
        (dict(iterations=1, anderson=True), "anderson"),
    ],
)
def test_settings_refuse_by_name(values, field):
    with pytest.raises(ValueError, match=field):
        ReNoise(**values)


def test_correction_is_refused_where_it_would_do_nothing():
    with pytest.raises(ValueError, match="correction"):
        round_trip(ReNoise(noise_correction=0.1))


def test_a_residual_that_grows_late_is_found_out_and_the_record_is_that_of_what_is_returned():
    """Most of the map contracts, so the residual falls first; one direction repels, and takes over in the end."""
    (step,) = steps(1)
    rates = torch.full(SHAPE, 0.3, dtype=torch.float64)
    rates[0, 0, 0] = -2.5
    x_0 = Mixture().data(1)
    x_0[0, 0, 0, 0] = 1e-3

    def predict(x: Tensor, t: Level) -> Tensor:
        return rates * x * step.a / -step.b

    for tolerance in (0.0, 1e-6):
        settings = ReNoise(iterations=9, tolerance=tolerance)
        found = run(settings.invert((step,), Photograph(x_0)), (step,), predict)
        assert found.diverged.all()
        honest = (step.renoise(x_0, predict(found.x_T, step.t)) - found.x_T).square().mean().sqrt()
        assert honest < 3 * found.residuals.max()


@pytest.mark.parametrize("tolerance", [0.0, 0.01])
@pytest.mark.parametrize("more", [dict(first_guess="epsilon", anderson=True), {}])
def test_edit_losses_are_applied_however_the_iteration_ends_and_are_not_called_divergence(tolerance, more):
    model, grid = Mixture(), steps(50)
    x_0 = model.data(2)
    plain = ReNoise(iterations=10, tolerance=tolerance, **more)
    whitened = ReNoise(iterations=10, tolerance=tolerance, lambda_pair=10, lambda_kl=0.05, **more)
    a, b = (run(s.invert(grid, Photograph(x_0)), grid, model) for s in (plain, whitened))
    assert not b.diverged.any()
    assert (a.x_T - b.x_T).norm() > 1e-2 * a.x_T.norm()
    assert b.calls.sum() <= a.calls.sum() * 1.2 + 50  # the reference costs one a step, the loss itself none


def test_a_stalled_image_still_gets_its_edit_loss():
    (step,) = steps(1)
    x_0 = Mixture().data(1)

    def slow(x: Tensor, t: Level) -> Tensor:
        return -0.998 * x * step.a / -step.b

    found = [
        run(ReNoise(iterations=99, tolerance=1e-6, lambda_pair=p).invert((step,), Photograph(x_0)), (step,), slow)
        for p in (0, 100)
    ]
    assert not torch.equal(found[0].x_T, found[1].x_T)
    assert found[0].iterations.max() < 20


def test_a_step_that_forgets_where_it_came_from_is_refused():
    schedule = Schedule((Level(1e-6, 1.0, 999.0), Level(0.5, math.sqrt(0.75), 500.0), Level(1.0, 0.0, 0.0)))
    grid, x_0 = plan(schedule, LCM(math.inf), V_PREDICTION), Mixture().data(1)
    program = EXACT.invert(grid, Photograph(x_0))
    with pytest.raises(ValueError, match="forgets"):
        run(program, grid, Mixture(V_PREDICTION))


SAMPLERS = pytest.mark.parametrize("sampler", [DDIM(), DDIM(0.5), DDIM(1.0), LCM(math.inf)], ids=repr)


@SAMPLERS
def test_the_posterior_guess_steps_back_to_x_s_where_the_network_sees_x_0(sampler):
    step = steps(10, sampler)[4]
    x_0, x_s, w = noise(3, torch.zeros(2, *SHAPE, dtype=torch.float64))
    x_t, z = step.posterior(x_0, x_s, w)
    out = (x_t - step.t.alpha * x_0) / step.t.sigma  # ε̂ of a network that sees x_0
    assert torch.allclose(step.denoise(x_t, out, z), x_s, atol=1e-12)


@SAMPLERS
def test_the_posterior_guess_is_white_where_x_s_is(sampler):
    step, like = steps(10, sampler)[4], torch.zeros(400, *SHAPE, dtype=torch.float64)
    x_0, n, w = noise(3, like)
    x_t, z = step.posterior(x_0, step.mix.A * x_0 + math.hypot(step.mix.B, step.mix.C) * n, w)
    epsilon = (x_t - step.t.alpha * x_0) / step.t.sigma
    drawn = (epsilon, z) if step.stochastic else (epsilon,)
    for noise_ in drawn:
        assert abs(noise_.std().item() - 1) < 0.01
        assert abs((noise_ * x_0).mean().item()) < 0.01
    assert abs((epsilon * z).mean().item()) < 0.01


@pytest.mark.parametrize("sampler", [DDIM(1.0), LCM(math.inf)], ids=repr)
def test_the_posterior_guess_keeps_x_T_noise_where_the_prior_blows_it_up(sampler):
    grid = steps(4, sampler)
    prior = ReNoise(iterations=60, tolerance=1e-9, noise_correction=math.inf)
    posterior = ReNoise(iterations=60, tolerance=1e-9, noise_correction=math.inf, first_guess="posterior")
    blown, _, _ = round_trip(prior, 4, sampler)
    found, calls, error = round_trip(posterior, 4, sampler)
    assert found.noises is not None
    assert len(found.noises) == sum(step.stochastic for step in grid) == 3
    assert blown.x_T.std() > 20
    assert 0.9 < found.x_T.std() < 1.1
    assert 0.9 < found.noises.std() < 1.6  # strides this long are not Gaussian, even on the way back
    assert error < 1e-8
    assert calls == found.iterations[-1].max() + 3  # one evaluation a stochastic step
