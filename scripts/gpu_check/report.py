"""The results as data, and the report that is made of them."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Comparison:
    """Two results that must agree."""

    part: str
    what: str
    error: float
    """0 if the results are equal."""
    tolerance: float
    note: str = ""

    @property
    def passed(self) -> bool:
        # Not a number passes no comparison.
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Speed:
    """The speed of one program at one task, from the median of its rounds."""

    part: str
    program: str
    work: str
    batch_size: int
    step_seconds: list[float]
    """The median step of each round."""
    median: float
    ratio: float | None = None
    """How many times as fast as `beside`."""
    beside: str = ""
    details: dict = field(default_factory=dict)
    """What `resnet bench` printed."""


@dataclass(frozen=True)
class Switch:
    """Whether one of the ways of `--cuda-tuning` should be turned on."""

    tuning: str
    work: str
    ratio: float
    """Its speed, relative to none: the median of the ratios of the rounds."""

    @property
    def pays(self) -> bool:
        return self.ratio > 1.01


@dataclass
class Report:
    command: str
    machine: dict[str, str] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    speeds: list[Speed] = field(default_factory=list)
    switches: list[Switch] = field(default_factory=list)
    runs: list[dict] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    part_seconds: dict[str, float] = field(default_factory=dict)

    def passed(self) -> bool:
        return not self.problems and all(row.passed for row in self.comparisons)

    def write(self, folder: Path) -> None:
        """Writes gpu-check.json and gpu-check.md."""
        data = asdict(self)
        data["passed"] = self.passed()
        for key, verdict in [("comparisons", "passed"), ("switches", "pays")]:
            for row, item in zip(data[key], getattr(self, key)):
                row[verdict] = getattr(item, verdict)
        (folder / "gpu-check.json").write_text(json.dumps(data, indent=1) + "\n")
        (folder / "gpu-check.md").write_text(self.markdown())

    def markdown(self) -> str:
        failed = sum(not row.passed for row in self.comparisons)
        verdict = (f"{len(self.comparisons)} comparisons, {failed} failed;"
                   f" {len(self.problems)} problems; {len(self.left_out)} left out")
        sections = [
            ["# gpu-check", "", f"**{'Passed' if self.passed() else 'FAILED'}**: {verdict}.", "",
             f"Command: `{self.command}`"],
            table(["", ""], [[name, value] for name, value in self.machine.items()]),
            listed("Problems", self.problems),
            section("Comparisons", ["part", "compared", "error of the worst tensor", "tolerance", "", ""], [
                [row.part, row.what, f"{row.error:.1e}", f"{row.tolerance:.1e}",
                 "ok" if row.passed else "**FAILED**", row.note] for row in self.comparisons]),
            section("Speed", ["part", "program", "work", "images/s", "step, ms", "rounds, ms",
                              "times as fast as", "GFLOP/s", "MiB"], map(speed_row, self.speeds)),
            section("Ways of --cuda-tuning", ["way", "work", "times as fast as none", ""], [
                [row.tuning, row.work, f"{row.ratio:.3f}", "pays" if row.pays else "does not pay"]
                for row in self.switches]),
            section("Runs", ["run", "seconds", "test accuracy", "images/s"], [
                [row["what"], f"{row['seconds']:.1f}", f"{row['test_accuracy']:.4f}",
                 f"{row['images_per_second']:.0f}"] for row in self.runs]),
            listed("Left out", self.left_out),
            section("Time", ["part", "seconds"], [
                [part, f"{seconds:.0f}"] for part, seconds in self.part_seconds.items()]),
        ]
        return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def speed_row(row: Speed) -> list[str]:
    rounds = row.step_seconds
    return [
        row.part, row.program, row.work, f"{row.batch_size / row.median:.0f}", f"{1e3 * row.median:.3f}",
        f"{1e3 * min(rounds):.3f}–{1e3 * max(rounds):.3f}",
        f"{row.ratio:.3f} {row.beside}" if row.ratio else "",
        f"{row.details['gflops']:.0f}" if row.details else "",
        str((row.details.get("peak_memory_bytes") or 0) >> 20) if row.details else "",
    ]


def table(names: list[str], rows) -> list[str]:
    # A bar within a cell would begin another cell.
    return ["| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in cells) + " |"
            for cells in [names, ["---"] * len(names), *rows]]


def section(title: str, names: list[str], rows) -> list[str]:
    """A table under a title; nothing if it has no rows."""
    rows = list(rows)
    return [f"## {title}", "", *table(names, rows)] if rows else []


def listed(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {' '.join(line.split())}" for line in lines)] if lines else []
