"""Starts `resnet` on one of the two sides of a comparison, within the time that is left."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path


class Failed(Exception):
    """A program ended with an error, or printed something unexpected."""


class OutOfTime(Exception):
    """The part, or the whole check, has no time left."""


class Clock:
    """The time that is left for the whole check, and for the part that runs now."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes
        self.part_end = self.end

    def begin_part(self, seconds: float) -> None:
        self.part_end = min(self.end, time.monotonic() + seconds)

    def left(self) -> float:
        return self.end - time.monotonic()

    def left_for_part(self) -> float:
        return self.part_end - time.monotonic()

    def timeout(self) -> float:
        """The seconds that the next program may run."""
        seconds = self.left_for_part()
        if seconds <= 0:
            raise OutOfTime
        return seconds


@dataclass(frozen=True)
class Side:
    """One side of a comparison: where a program computes, and what else is different there."""

    device: str
    threads: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    train_flags: dict[str, str] = field(default_factory=dict)

    def is_cuda(self) -> bool:
        return self.device.startswith("cuda")

    def flags(self, command: str, flags: dict[str, str]) -> dict[str, str]:
        """The flags of a command on this side. They replace flags of the same name."""
        own = {"device": self.device} | ({"threads": self.threads} if self.threads else {})
        return flags | own | (self.train_flags if command == "train" else {})


@dataclass(frozen=True)
class Output:
    """What a program printed: its JSON lines, and the warnings on stderr."""

    lines: list[dict]
    warnings: str

    def epochs(self) -> list[dict]:
        return [line for line in self.lines if line.get("event") == "epoch"]


class Program:
    """The program that is checked, with the environment that it needs on this machine."""

    def __init__(self, path: Path, environment: dict[str, str], clock: Clock) -> None:
        self.path = path
        self.environment = environment
        self.clock = clock

    def command(self, side: Side, command: str, flags: dict[str, str], *names: str) -> list[str]:
        words = [word for name, value in side.flags(command, flags).items()
                 for word in (f"--{name}", value)]
        return [str(self.path), command, *names, *words, "--json", "--quiet"]

    def environment_on(self, side: Side) -> dict[str, str]:
        return os.environ | self.environment | side.environment

    def run(self, side: Side, command: str, flags: dict[str, str], *names: str) -> Output:
        words = self.command(side, command, flags, *names)
        print("+", " ".join(words), file=sys.stderr, flush=True)
        try:
            result = subprocess.run(words, env=self.environment_on(side), capture_output=True,
                                    text=True, timeout=self.clock.timeout())
        except subprocess.TimeoutExpired:
            raise OutOfTime from None
        if result.returncode:
            raise Failed(f"{' '.join(words)}: status {result.returncode}: {result.stderr.strip()}")
        return Output([json.loads(line) for line in result.stdout.splitlines()], result.stderr)
