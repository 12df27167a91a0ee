"""What every part gets: the program, the two sides, a folder for runs, and the report."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpu_check import agreement
from gpu_check.agreement import Errors
from gpu_check.program import Output, Program, Side
from gpu_check.report import Comparison, Report


@dataclass
class Check:
    program: Program
    reference: Side
    """The CPU."""
    device: Side
    """The device that is checked."""
    folder: Path
    report: Report
    facts: dict
    """What `doctor` says."""
    part: str = ""
    """The name of the part that runs now."""
    count: int = 0

    def train(self, side: Side, flags: dict[str, str], *names: str) -> tuple[Output, Path]:
        """A new run, and its folder."""
        self.count += 1
        run = self.folder / f"run-{self.count}"
        return self.program.run(side, "train", flags | {"run-dir": str(run)}, *names), run

    def compare(self, what: str, error: float, tolerance: float, note: str = "") -> None:
        self.report.comparisons.append(Comparison(self.part, what, error, tolerance, note))

    def require(self, what: str, met: bool, note: str = "") -> None:
        self.compare(what, 0.0 if met else 1.0, 0.0, note)

    def agree(
        self,
        what: str,
        expected: tuple[Side, dict[str, str]],
        found: tuple[Side, dict[str, str]],
        tolerances: dict[str, float],
    ) -> None:
        """Trains on two sides with the same seeds, and compares momentum and statistics at the end."""

        def with_seed(seed: int) -> Errors:
            runs = [self.train(side, flags | {"seed": str(seed)})[1] for side, flags in (expected, found)]
            return difference(*runs)

        self.agree_over_seeds(what, with_seed, tolerances)

    def agree_over_seeds(
        self, what: str, with_seed: Callable[[int], Errors], tolerances: dict[str, float]
    ) -> None:
        worst, seeds = agreement.over_seeds(with_seed, tolerances)
        note = f"{seeds} seed{'s' if seeds > 1 else ''}"
        if seeds < agreement.SEEDS and any(worst[kind] > limit for kind, limit in tolerances.items()):
            note += "; no time for more"
        for kind, tolerance in tolerances.items():
            self.compare(f"{what}: {kind}", worst[kind], tolerance, note)


def difference(expected: Path, found: Path) -> Errors:
    """How far the results of two runs differ."""
    return {
        "momentum": agreement.errors(agreement.momentum(expected), agreement.momentum(found)),
        "statistics": agreement.errors(agreement.statistics(expected), agreement.statistics(found)),
    }
