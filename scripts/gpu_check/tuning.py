"""The ways of `--cuda-tuning`: whether each is right, and whether it pays."""

import functools
import statistics
import subprocess
from pathlib import Path

from gpu_check.agreement import Errors
from gpu_check.check import Check, difference
from gpu_check.correctness import FP32, NETWORKS, ONE_STEP
from gpu_check.report import Switch
from gpu_check.speed import REPLAYED, Work, in_rounds, on, ours

WAYS = ["batch-norm", "max-pool", "pad-channels"]
FLAG = "cuda-tuning"

# In 16 bits, rounding alone changes the gradients by a half. So a step with a way and a step without it are
# both compared with a step in fp32, and the way may not have larger errors. Spread on a CPU, between
# instruction sets: a tensor's error is up to 1.5 times as large with one seed, and 1.1 with the best of
# three; the statistics differ by 1.1e-2. A gradient that is missing has 1.7 to 170 times the error.
GRADIENTS = "error of the gradients, relative to the error of none"
BF16 = {GRADIENTS: 1.5, "statistics": 0.05}


def refused(check: Check) -> str | None:
    """Why this part cannot run."""
    help_text = subprocess.run([str(check.program.path), "bench", "--help"], capture_output=True,
                               text=True, env=check.program.environment_on(check.device)).stdout
    if f"--{FLAG}" not in help_text:
        return f"this program has no --{FLAG}"
    return None


def right(check: Check) -> None:
    """One step with each way, and the same step without: in fp32, and in bf16."""

    @functools.cache
    def step(way: str, precision: str, seed: int) -> Path:
        more = {FLAG: way, "precision": precision, "seed": str(seed)}
        return check.train(check.device, ONE_STEP | NETWORKS["ResNet-18"] | more)[1]

    for way in WAYS:

        def in_fp32(seed: int) -> Errors:
            return difference(step("none", "fp32", seed), step(way, "fp32", seed))

        def in_bf16(seed: int) -> Errors:
            exact = step("none", "fp32", seed)
            none, some = (step(ways, "bf16", seed) for ways in ("none", way))
            with_none, with_way = (difference(exact, run)["momentum"] for run in (none, some))
            return {
                GRADIENTS: {name: error / max(with_none[name], 1e-12) for name, error in with_way.items()},
                "statistics": difference(none, some)["statistics"],
            }

        check.agree_over_seeds(f"{way}, fp32", in_fp32, FP32)
        check.agree_over_seeds(f"{way}, bf16", in_bf16, BF16)


def pays(check: Check) -> None:
    """Training with none of the ways, each alone, and all, in turns."""
    for work in [Work(18, 96, 256, 200), Work(50, 96, 128, 100)]:
        work, rounds = on(check, work)
        lists = ["none", *WAYS, ",".join(WAYS)]
        names = {ways: f"resnet, bf16, {ways}, {REPLAYED}" for ways in lists}
        programs = [ours(check, name, work, {"precision": "bf16", FLAG: ways})
                    for ways, name in names.items()]
        seconds = in_rounds(check, work, rounds, programs, lambda name: names["none"])
        for ways in lists[1:]:
            if names[ways] in seconds and names["none"] in seconds:
                pairs = zip(seconds[names["none"]], seconds[names[ways]])
                ratio = statistics.median(none / some for none, some in pairs)
                check.report.switches.append(Switch(ways, str(work), ratio))
