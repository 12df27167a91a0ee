"""The programs that `run` and scripts/gpu-check measure, and how they take turns."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent

# With glibc's default thresholds, freed activations return to the system at each step.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 33)}


class Failed(Exception):
    """A program ended, or printed something unexpected. The message has the end of its stderr."""


@dataclass(frozen=True)
class Rival:
    """A program that uses the protocol of pytorch.py."""

    name: str
    command: list[str]
    build: str
    """How to install it."""
    packages: list[str] = field(default_factory=list)
    """Packages that its Python interpreter, the first word of the command, must have."""
    modes: tuple[str, ...] = ("train", "inference")
    kinds: tuple[str, ...] = ("resnet", "resnext", "seresnet")
    slow: bool = False
    """If true, it takes only one step in a round, for any --steps."""
    environment: dict[str, str] = field(default_factory=dict)

    def installed(self) -> bool:
        program = self.command[0]
        if not self.packages:
            return Path(program).exists()
        check = "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, sys.argv[1:])))"
        try:
            return not subprocess.run([program, "-c", check, *self.packages]).returncode
        except OSError as error:
            sys.exit(f"error: --python {program}: {error.strerror}")


PYTORCH = {
    "plain": "PyTorch, plain",
    "tuned": "PyTorch, tuned",
    "compiled": "PyTorch, tuned and compiled",
    "compiled-graphs": "PyTorch, tuned and compiled with CUDA graphs",
}


def pytorch(variant: str, python: str, precision: str) -> Rival:
    """A variant of pytorch.py, in this interpreter. The plain variant always computes in fp32."""
    return Rival(
        PYTORCH[variant],
        [python, str(HERE / "pytorch.py"), "--variant", variant,
         "--precision", "fp32" if variant == "plain" else precision],
        "give --python an interpreter with torch and torchvision",
        packages=["torch", "torchvision"],
        environment={} if variant == "plain" else KEEP_MEMORY,
    )


def tail(text: str) -> str:
    """The last lines of a text, indented."""
    lines = [line for line in text.splitlines() if line.strip()]
    return "".join(f"\n    {line}" for line in lines[-5:])


class Ours:
    """This program. It starts fast, so each round is a new process."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        self.name = name
        self.command = command
        self.environment = environment
        self.last: dict = {}
        """What the last round printed."""

    def round(self, timeout: float | None) -> float:
        """The median of a round's steps, in seconds."""
        try:
            result = subprocess.run(self.command, env=self.environment, capture_output=True,
                                    text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Failed(f"took longer than {timeout:.0f} s") from None
        if result.returncode:
            raise Failed(f"ended with status {result.returncode}{tail(result.stderr)}")
        self.last = json.loads(result.stdout)
        return self.last["step_seconds"]

    def close(self) -> None:
        pass


class Peer:
    """A rival's process. It starts in the first round, and takes steps in each round."""

    def __init__(self, rival: Rival, work: list[str], steps: int) -> None:
        self.name = rival.name
        self.command = [*rival.command, *work]
        self.environment = os.environ | rival.environment
        self.count = 1 if rival.slow else steps
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        # A file, because nobody would read a pipe while the process works.
        self.stderr = tempfile.TemporaryFile("w+", errors="replace")
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr,
            text=True, env=self.environment,
        )

    def round(self, timeout: float | None) -> float:
        """The median of a round's steps, in seconds."""
        starts = self.process is None
        if starts:
            self.start()
        # Reading from a pipe has no time limit, but it ends when the process does.
        timer = threading.Timer(timeout or threading.TIMEOUT_MAX, self.process.kill)
        timer.start()
        try:
            if starts:
                line = self.process.stdout.readline()
                if line.strip() != "ready":
                    raise self.failure(line)
            return self.steps()
        except Failed:
            if timer.is_alive():
                raise
            raise Failed(f"took longer than {timeout:.0f} s") from None
        finally:
            timer.cancel()

    def steps(self) -> float:
        line = ""
        try:
            self.process.stdin.write(f"{self.count}\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
            return statistics.median(json.loads(line))
        except (OSError, ValueError) as error:
            raise self.failure(line) from error

    def failure(self, line: str) -> Failed:
        if line:
            what = f"answered {line.strip()!r}"
        else:
            what = f"ended with status {self.process.wait()}"
        self.stderr.seek(0)
        return Failed(what + tail(self.stderr.read()))

    def close(self) -> None:
        """Ends the process. Another round would start a new one."""
        if self.process:
            try:
                # When stdin is closed, the process ends, and so do its children.
                self.process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.communicate()
            self.stderr.close()
            self.process = None


def measure(
    programs: list[Ours | Peer],
    rounds: int,
    one_at_a_time: bool = False,
    time_left: Callable[[], float] | None = None,
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """The seconds of each program in each round, and why other programs failed. `time_left` is the
    number of seconds that the next program may take. If none are left, the rounds so far count."""
    seconds: dict[str, list[float]] = {program.name: [] for program in programs}
    failures = {}
    try:
        for _ in range(rounds):
            for program in [program for program in programs if program.name not in failures]:
                times = seconds[program.name]
                try:
                    timeout = time_left and time_left()
                    if timeout is not None and timeout <= 0:
                        raise Failed("has no time left")
                    times.append(program.round(timeout))
                except Failed as failed:
                    over = time_left and time_left() <= 0
                    if not (over and times):
                        failures[program.name] = str(failed)
                if one_at_a_time or program.name in failures:
                    program.close()
    finally:
        for program in programs:
            program.close()
    return {name: times for name, times in seconds.items() if name not in failures}, failures
