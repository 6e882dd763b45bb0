"""What a method must have: a program that inverts, one that draws, and what it needs and takes.

A method is a frozen dataclass of its settings. `renoise.invert(pipe, image, prompt, method=...)` runs its `invert`, and
`renoise.edit` its `draw`. docs/adding-a-method.md shows how to add one.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from renoise.edits import NEGATIVE, SOURCE, TARGET, Edit, Source

if TYPE_CHECKING:
    from typing import Self

    from torch import Tensor

    from renoise.programs import Inverted, Photograph, Program
    from renoise.step import Step

# What a method may need.
STOCHASTIC, PHOTOGRAPH, GRADIENTS = "a stochastic sampler", "the photograph", "gradients"
# Options of `renoise.edit` that a method may take or not; the rest is the pipeline's.
AUTO_MASK = 'mask="auto"'
EDIT_OPTIONS = frozenset({"negative_prompt", "pseudo_guidance", "source_correction", "mask", AUTO_MASK})
LIKE_NOISE = 0.5, 2.0  # standard deviations of an x_T that can be edited


class Method:
    """Base class of all methods.

    Attributes:
        name: as in `renoise.methods.METHODS`, in files and on the command line.
        title: as in messages and papers.
        needs: STOCHASTIC (the steps must draw noise), PHOTOGRAPH (drawing starts from the clean latents, which files do not
            hold), GRADIENTS (its programs differentiate through the network).
        takes: which of EDIT_OPTIONS an edit may use.
        reconstructs: the noise under the unchanged prompt draws the photograph, along the inversion's own trajectory.
        pipeline_guides_rows: the pipeline's guidance applies to every row; otherwise it is off while there are several rows.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = EDIT_OPTIONS
    reconstructs: ClassVar[bool] = False
    pipeline_guides_rows: ClassVar[bool] = False

    def invert(self, steps: "Sequence[Step]", photograph: "Photograph") -> "Program[Inverted]":
        """Find the noise from which these steps, noisiest first, draw the photograph."""
        raise NotImplementedError

    def draw(self, steps: "Sequence[Step]", source: Source, edit: Edit) -> "Program[Tensor]":
        """Draw x_0 (B, ...) under the target prompt. The program asks about latents (rows · B, ...), in the order of `rows`."""
        from renoise.editing import redraw  # brings torch

        return redraw(steps, source, edit, self.rows(edit))

    def rows(self, edit: Edit) -> tuple[str, ...]:
        """Return the prompts under which `draw` asks: of SOURCE, NEGATIVE and TARGET, which is the last."""
        return (SOURCE,) * (edit.source_correction > 0) + (NEGATIVE,) * (edit.guidance is not None) + (TARGET,)

    def prepare(self, steps: "Sequence[Step]", start: int) -> "Self":
        """Return the method as it runs on the steps from number `start` on. ValueError if it cannot."""
        if STOCHASTIC in self.needs and not is_stochastic(steps[start:]):
            samplers = "DDIM with eta=1.0, ancestral Euler, DDPM or LCM"
            raise ValueError(f"{self.title} needs {STOCHASTIC}: {samplers}")
        return self

    def check(self, options: dict[str, Any]) -> None:
        """Raise ValueError for options of an edit (None: not given) that this method does not take."""
        given = {name for name, value in options.items() if value is not None}
        refused = sorted((given & EDIT_OPTIONS) - self.takes)
        if refused:
            raise ValueError(
                f"{self.title} takes no {' and no '.join(refused)}: leave {'it' if len(refused) == 1 else 'them'} out"
            )

    def warnings(self, found: "Inverted", steps: "Sequence[Step]", to_noise: bool) -> list[str]:
        """Return what the user should know of an inversion; `to_noise` says that its steps end in pure noise."""
        low, high = LIKE_NOISE
        stds = found.x_T.flatten(1).std(1).tolist()
        worst = max(stds, key=lambda std: max(std / high, low / max(std, 1e-9)))
        if not to_noise or low < worst < high:
            return []
        return [f"x_T has standard deviation {worst:.2g}, noise has 1: edits will suffer; try more steps"]


def is_stochastic(steps: "Sequence[Step]") -> bool:
    """Whether any of the steps draws noise."""
    return any(step.stochastic for step in steps)
