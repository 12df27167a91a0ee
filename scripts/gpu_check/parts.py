"""The parts of the check, the most important ones first."""

from collections.abc import Callable
from dataclasses import dataclass

from gpu_check import correctness, speed, tuning
from gpu_check.check import Check


@dataclass(frozen=True)
class Part:
    name: str
    work: Callable[[Check], None]
    seconds: float
    """The part is stopped after this time, so that the later parts have time too."""
    needs_data: bool = True
    """Whether it reads Fashion-MNIST."""
    only_cuda: bool = False
    refused: Callable[[Check], str | None] = lambda check: None
    """Why the program cannot do it."""

    def what(self) -> str:
        """The first sentence of its description."""
        return " ".join(self.work.__doc__.split()).partition(". ")[0].rstrip(".")

    def left_out(self, check: Check) -> str | None:
        """Why the part cannot run here."""
        if self.only_cuda and not check.device.is_cuda():
            return "only on CUDA"
        if self.needs_data and not check.facts["data"]:
            return "Fashion-MNIST was not found: give --data"
        if check.program.clock.left() < 5:
            return "no time is left"
        return self.refused(check)


PARTS = [
    Part("gradients", correctness.gradients, 75),
    Part("updates", correctness.updates, 40),
    Part("graphs", correctness.graphs, 75),
    Part("checkpoint", correctness.checkpoint, 30),
    Part("resume", correctness.resume, 45),
    Part("deterministic", correctness.deterministic, 40),
    Part("headline", speed.headline, 180, needs_data=False),
    Part("tuning-right", tuning.right, 75, only_cuda=True, refused=tuning.refused),
    Part("tuning-pays", tuning.pays, 120, needs_data=False, only_cuda=True, refused=tuning.refused),
    Part("half", speed.half, 45, needs_data=False),
    Part("out-of-memory", correctness.out_of_memory, 60, only_cuda=True),
    Part("chapter", speed.chapter, 75),
    Part("networks", speed.networks, 240, needs_data=False),
]
