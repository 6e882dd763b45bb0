"""Base class of the inversion methods.

A method is a frozen dataclass whose fields are its settings. `renoise.invert(pipe, image, prompt, method=...)` runs its
`invert`, and `renoise.edit` its `draw`. docs/adding-a-method.md shows how to add a method.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from renoise.edits import NEGATIVE, SOURCE, TARGET, Edit, Source

if TYPE_CHECKING:
    from typing import Self

    from torch import Tensor

    from renoise.programs import Inverted, Photograph, Program
    from renoise.step import Step

# Requirements that a method may have.
STOCHASTIC, PHOTOGRAPH, GRADIENTS = "a stochastic sampler", "the photograph", "gradients"
# Options of `renoise.edit` that a method may support. All others are passed to the pipeline.
AUTO_MASK = 'mask="auto"'
EDIT_OPTIONS = frozenset({"negative_prompt", "pseudo_guidance", "source_correction", "mask", AUTO_MASK, "editability"})
LIKE_NOISE = 0.2, 100.0  # range of the power of noise that can be edited, as a multiple of that of noised photographs


class Method(ABC):
    """Base class of all methods.

    Attributes:
        name: key in `renoise.methods.METHODS`, also used in files and on the command line.
        title: name in messages.
        needs: requirements: STOCHASTIC (the sampler must draw noise), PHOTOGRAPH (`draw` starts from the clean latents,
            which files do not contain), GRADIENTS (the programs differentiate through the network).
        takes: the members of EDIT_OPTIONS that an edit supports.
        reconstructs: whether denoising with the source prompt reproduces the photograph along the inversion's
            trajectory.
        pipeline_guides_rows: whether the pipeline's guidance applies to every row. Otherwise it is off for several
            rows.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = EDIT_OPTIONS
    reconstructs: ClassVar[bool] = False
    pipeline_guides_rows: ClassVar[bool] = False

    @property
    def closes_noises(self) -> bool:
        """Return whether the method is at its best with a sampler that draws noise, so that DDIM is asked to."""
        return STOCHASTIC in self.needs

    @property
    def default_editability(self) -> float:
        """Return the editability of an edit for which the user gives none, in [0, 1]."""
        return 0.0

    @abstractmethod
    def invert(self, steps: "Sequence[Step]", photograph: "Photograph") -> "Program[Inverted]":
        """Find the noise from which the sampler draws the photograph.

        Args:
            steps: the sampler steps, noisiest first.
            photograph: the clean latents and random numbers.
        """

    def checked_invert(self, steps: "Sequence[Step]", photograph: "Photograph") -> "Program[Inverted]":
        """Run `invert`, and check what it returns."""
        from renoise.programs import Inverted  # imported here because it imports torch

        found = yield from self.invert(steps, photograph)
        if not isinstance(found, Inverted):
            raise TypeError(f"{self.title}: invert must return a renoise.programs.Inverted, not {type(found).__name__}")
        lengths = {
            len(part) for part in (found.trajectory, found.residuals, found.iterations, found.diverged, found.calls)
        }
        if lengths != {len(steps)}:
            raise ValueError(
                f"{self.title}: an Inverted of {len(steps)} steps needs as many entries each, got {sorted(lengths)}"
            )
        if not bool((found.trajectory[-1] == photograph.x_0).all()):
            raise ValueError(f"{self.title}: the trajectory must end with x_0, the steps are noisiest first")
        return found

    def draw(self, steps: "Sequence[Step]", source: Source, edit: Edit) -> "Program[Tensor]":
        """Draw x_0 (B, ...) under the target prompt.

        The program requests evaluations at latents (rows · B, ...), in the order of `rows`.

        Args:
            steps: the sampler steps, noisiest first.
            source: the inverted photograph.
            edit: settings of the edit.
        """
        from renoise.editing import redraw  # brings torch

        return redraw(steps, source, edit, self.rows(edit))

    def rows(self, edit: Edit) -> tuple[str, ...]:
        """Return the prompts of `draw`'s rows, of SOURCE, NEGATIVE and TARGET. The last one is TARGET."""
        return (SOURCE,) * (edit.source_correction > 0) + (NEGATIVE,) * (edit.guidance is not None) + (TARGET,)

    def prepare(self, steps: "Sequence[Step]", start: int) -> "Self":
        """Return the method adapted to the steps from index `start`. Raise ValueError if it cannot run on them."""
        if STOCHASTIC in self.needs and not is_stochastic(steps[start:]):
            samplers = "DDIM with eta=1.0, ancestral Euler, DDPM or LCM"
            raise ValueError(f"{self.title} needs {STOCHASTIC}: {samplers}")
        return self

    def check(self, options: dict[str, Any]) -> None:
        """Raise ValueError if an edit uses an option that this method does not support. None means not given."""
        given = {name for name, value in options.items() if value is not None}
        refused = sorted((given & EDIT_OPTIONS) - self.takes)
        if "mask" in refused:  # which says it all
            refused = [name for name in refused if name != AUTO_MASK]
        if refused:
            raise ValueError(
                f"{self.title} takes no {' and no '.join(refused)}: leave {'it' if len(refused) == 1 else 'them'} out"
            )

    def warnings(self, found: "Inverted", steps: "Sequence[Step]", spectrum: "Tensor | None") -> list[str]:
        """Return warnings about the result of an inversion.

        Args:
            found: the result.
            steps: the steps that were inverted.
            spectrum: power of x_T and the noises as a multiple of that of noised photographs (1 + m, bands, B), see
                `spectrum.of_inversion`. None if it is not known.
        """
        low, high = LIKE_NOISE
        values = [] if spectrum is None else [v for v in spectrum.flatten().tolist() if not math.isnan(v)]
        worst = max(values, key=lambda power: max(power / high, low / max(power, 1e-9)), default=1.0)
        if low < worst < high:
            return []
        return [
            f"at some frequencies the noise has {worst:.2g} times the power of noise, which degrades edits: "
            "raise editability, noised_below or the number of steps"
        ]


def is_stochastic(steps: "Sequence[Step]") -> bool:
    """Return whether any of the steps draws noise."""
    return any(step.stochastic for step in steps)
