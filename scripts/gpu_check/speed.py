"""Speed: the headline beside PyTorch, and other networks."""

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass

from gpu_check.check import Check
from gpu_check.machine import ROOT
from gpu_check.report import Speed
from peers.rivals import Ours, Peer, measure, pytorch

# The most seconds of one round of one program. PyTorch compiles in its first round, for up to a minute.
ROUND_SECONDS = 100
# The end of the name of a program that replays its steps.
REPLAYED = "CUDA graphs"


@dataclass(frozen=True)
class Work:
    """A network and its batches."""

    depth: int
    size: int
    batch_size: int
    steps: int
    """Steps in a round."""
    mode: str = "train"

    def flags(self) -> dict[str, str]:
        return {"mode": self.mode, "depth": str(self.depth), "size": str(self.size),
                "batch-size": str(self.batch_size)}

    def __str__(self) -> str:
        kind = "" if self.mode == "train" else f"{self.mode}, "
        return f"{kind}ResNet-{self.depth}, 1×{self.size}×{self.size}, batch {self.batch_size}"


def on(check: Check, work: Work) -> tuple[Work, int]:
    """The work and the number of rounds. A CPU gets a small work, which only tries the script."""
    if check.device.is_cuda():
        return work, 3
    return Work(work.depth, 32, 8, 2, work.mode), 2


def kinds(check: Check) -> list[tuple[str, str]]:
    """The values of --cuda-graphs to measure, with their names. A CPU has no graphs."""
    plain = [("false", "no graphs")]
    return [("true", REPLAYED), *plain] if check.device.is_cuda() else plain


def ours(check: Check, name: str, work: Work, flags: dict[str, str]) -> Ours:
    """`resnet bench` on the device."""
    flags = work.flags() | {"steps": str(work.steps), "warmup-steps": "3"} | flags
    return Ours(name, check.program.command(check.device, "bench", flags),
                check.program.environment_on(check.device))


def in_rounds(check: Check, work: Work, rounds: int, programs: list[Ours | Peer],
              beside: Callable[[str], str | None]) -> dict[str, list[float]]:
    """Measures the programs in turns. Returns the seconds of a step in each round of each program.
    `beside` names the program with which a program is compared."""
    for program in programs:
        print("+", " ".join(program.command), file=sys.stderr, flush=True)
    clock = check.program.clock
    seconds, failures = measure(
        programs, rounds, time_left=lambda: min(ROUND_SECONDS, clock.left_for_part()))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for program in programs:
        name = program.name
        if name in failures:
            is_fault = isinstance(program, Ours) and clock.left_for_part() > 0
            place = check.report.problems if is_fault else check.report.left_out
            place.append(f"{check.part}: {name}, {work}: it {failures[name]}")
            continue
        other = beside(name)
        ratio = medians[other] / medians[name] if other in medians and other != name else None
        details = program.last if isinstance(program, Ours) else {}
        check.report.speeds.append(Speed(check.part, name, str(work), work.batch_size, seconds[name],
                                         medians[name], ratio, other if ratio else "", details))
        if check.device.is_cuda() and details and name.endswith(REPLAYED):
            check.require(f"{name}, {work}: steps are replayed", details["cuda_graphs"])
    return seconds


def headline(check: Check) -> None:
    """ResNet-18 in bf16, with and without CUDA graphs, beside PyTorch: eager, compiled, and compiled with
    CUDA graphs."""
    work, rounds = on(check, Work(18, 96, 256, 200))
    programs: list[Ours | Peer] = [
        ours(check, f"resnet, bf16, {name}", work, {"precision": "bf16", "cuda-graphs": graphs})
        for graphs, name in kinds(check)
    ]
    words = [word for name, value in work.flags().items() for word in (f"--{name}", value)]
    words += ["--device", check.device.device]
    variants = ["tuned", "compiled"]
    if check.device.is_cuda():
        variants.append("compiled-graphs")
    rivals = [pytorch(variant, sys.executable, "bf16") for variant in variants]
    if rivals[0].installed():
        programs += [Peer(rival, words, work.steps) for rival in rivals]
    else:
        check.report.left_out.append(f"{check.part}: PyTorch: {sys.executable} lacks torch or torchvision")
    in_rounds(check, work, rounds, programs, lambda name: rivals[0].name)


def half(check: Check) -> None:
    """bf16 and fp16 in turns. In libtorch 2.11, batch norm goes through cuDNN in fp16, but not in bf16."""
    work, rounds = on(check, Work(18, 96, 256, 200))
    graphs, kind = kinds(check)[0]
    names = {precision: f"resnet, {precision}, {kind}" for precision in ["bf16", "fp16"]}
    programs = [ours(check, name, work, {"precision": precision, "cuda-graphs": graphs})
                for precision, name in names.items()]
    in_rounds(check, work, rounds, programs, lambda name: names["bf16"])


def networks(check: Check) -> None:
    """Three networks in all precisions, with and without CUDA graphs, once each. The most important work
    comes first, because the time may not be enough for all."""
    sizes = [(depth, size, batch) for size in [96, 224] for depth, batch in [(18, 256), (50, 128), (152, 64)]]
    if not check.device.is_cuda():
        sizes = sizes[:1]
    train = [("train", precision, *size) for precision in ["bf16", "tf32", "fp16", "fp32"] for size in sizes]
    inference = [("inference", "bf16", *size) for size in sizes]
    for mode, precision, depth, size, batch in train[:len(sizes)] + inference + train[len(sizes):]:
        if precision == "tf32" and not check.device.is_cuda():
            continue
        work, _ = on(check, Work(depth, size, batch, 30, mode))
        # Inference has no graphs.
        for graphs, name in kinds(check) if mode == "train" else kinds(check)[-1:]:
            program = ours(check, f"resnet, {precision}, {name}", work,
                           {"precision": precision, "cuda-graphs": graphs})
            if check.program.clock.left_for_part() < 10:
                check.report.left_out.append(f"{check.part}: {program.name}, {work}: no time is left")
                continue
            in_rounds(check, work, 1, [program], lambda name: None)


def chapter(check: Check) -> None:
    """The defaults and the chapter's configuration, ten epochs each."""
    for name, flags in [
        ("the defaults, 10 epochs", {}),
        ("configs/chapter.toml", {"config": str(ROOT / "configs/chapter.toml")}),
    ]:
        if not check.device.is_cuda():
            flags = flags | {"epochs": "1", "limit-batches": "2", "size": "32", "batch-size": "8"}
            name += ", but 2 batches on a CPU"
        output, _ = check.train(check.device, flags)
        check.report.runs.append({"what": name, **output.lines[-1],
                                  "images_per_second": output.epochs()[-1]["images_per_second"]})
