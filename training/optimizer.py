"""How weights are changed: the optimiser, and what makes a step quick on a GPU."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


class Replay:
    """A function of tensors which a GPU launches as one CUDA graph, recorded at the first call.

    A network this small computes for less time than a CPU needs to ask for its kernels one by one. Inputs keep their shapes from
    call to call; the output is overwritten by the next. The gradients that the function leaves in `parameters` are put there
    after every replay. The first call runs it three times: what it changes besides (Muon's momentum) changes three times.
    """

    def __init__(
        self, function: Callable[..., Any], where: torch.device, parameters: Iterable[nn.Parameter] = ()
    ) -> None:
        self.function, self.where, self.parameters = function, where, [p for p in parameters if p.requires_grad]
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: torch.Tensor) -> Any:
        if self.where.type != "cuda":
            return self.function(*inputs)
        if self.graph is None:
            with torch.cuda.device(self.where):
                self._record(inputs)
            assert self.graph
        torch._foreach_copy_(self.inputs, inputs)
        self.graph.replay()
        for p, grad in zip(self.parameters, self.gradients, strict=True):
            p.grad = grad
        return self.output

    def _record(self, inputs: tuple[torch.Tensor, ...]) -> None:
        self.inputs = [v.clone() for v in inputs]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # what must not happen in a recording: compiling, choosing kernels, first states
            for _ in range(2):
                self._forget()
                self.function(*self.inputs)
        torch.cuda.current_stream().wait_stream(side)
        self._forget()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # the loader's thread goes on meanwhile
            self.output = self.function(*self.inputs)
        self.gradients = [p.grad for p in self.parameters]

    def _forget(self) -> None:
        for p in self.parameters:
            p.grad = None


class Optimizer:
    """Muon for the weights of linear and convolutional layers, AdamW for the rest (biases, norms, embeddings).

    Muon (K. Jordan, 2024) steps along the nearest orthogonal matrix of the momentum, so that weak directions learn as fast
    as strong ones. Where steps are short, as on a CPU, that is worth more than anything else tried here: after two minutes on
    one core the autoencoder stood at 30.1 dB, with AdamW alone at 25.8. A convolution is the matrix of its unfolded patches.
    `rate` holds for both, since Muon's updates are scaled to AdamW's size.
    """

    def __init__(self, modules: Iterable[nn.Module], rate: float, betas: tuple[float, float] = (0.9, 0.98)) -> None:
        matrices: dict[int, nn.Parameter] = {}
        others: dict[int, nn.Parameter] = {}
        for module in (m for root in modules for m in root.modules()):
            for p in module.parameters(recurse=False):
                if p.requires_grad:
                    layer = isinstance(module, nn.Linear | nn.Conv2d) and p.ndim > 1
                    (matrices if layer else others)[id(p)] = p
        self.matrices, self.parameters = list(matrices.values()), [*matrices.values(), *others.values()]
        # Muon moves these from zero, at a fixed rate that can be recorded; the weights then move by `factor` times as much.
        self.moves = [nn.Parameter(torch.zeros_like(self._flat(p.data))) for p in self.matrices]
        pairs = list(zip(self.moves, (p.shape for p in self.matrices), strict=True))
        self.shaped = [m.data.view(n, *side, c).movedim(-1, 1) for m, (n, c, *side) in pairs]
        self.muon = torch.optim.Muon(self.moves, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        self.move = Replay(self._move, self.moves[0].device)
        self.rate, self.parts = rate, list[torch.optim.Optimizer]([self.muon])
        if others:
            rest = list(others.values())
            self.parts.append(torch.optim.AdamW(rest, lr=rate, betas=betas, weight_decay=0.0, fused=True))

    @staticmethod
    def _flat(p: torch.Tensor) -> torch.Tensor:
        return p.permute(0, 2, 3, 1).reshape(len(p), -1) if p.ndim == 4 else p.view(len(p), -1)

    def _move(self, *grads: torch.Tensor) -> None:
        for m, grad in zip(self.moves, grads, strict=True):
            m.grad = grad
        torch._foreach_zero_(self.moves)
        self.muon.step()
        self.muon.zero_grad()

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """One step at `factor` times the rate, of the gradients there are; these are then dropped."""
        self.move(*(self._flat(torch.zeros_like(p) if p.grad is None else p.grad) for p in self.matrices))
        torch._foreach_add_(self.matrices, self.shaped, alpha=factor)
        for p in self.matrices:
            p.grad = None
        for part in self.parts[1:]:
            for group in part.param_groups:
                group["lr"] = self.rate * factor
            part.step()
            part.zero_grad()

    def state(self) -> dict[str, torch.Tensor]:
        """All that a checkpoint must hold, by name."""
        return {
            f"{n}.{i}.{k}": torch.as_tensor(v)
            for n, part in enumerate(self.parts)
            for i, values in part.state_dict()["state"].items()
            for k, v in values.items()
        }

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up what `state` gave."""
        states: list[dict[int, dict[str, torch.Tensor]]] = [{} for _ in self.parts]
        for key, value in tensors.items():
            n, i, name = key.split(".", 2)
            states[int(n)].setdefault(int(i), {})[name] = value
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict({"state": state, "param_groups": part.state_dict()["param_groups"]})
