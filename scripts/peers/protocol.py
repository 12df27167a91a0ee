"""Code that the rivals in Python share: the options that describe the work, and the protocol of
scripts/peers/run (protocol.rs has the same in Rust).
"""

import argparse
import json
import sys
import time
from collections.abc import Callable

WARMUP_STEPS = 3


def parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--mode", choices=["train", "inference"], default="train")
    parser.add_argument("--kind", choices=["resnet", "resnext", "seresnet"], default="resnet")
    parser.add_argument("--depth", type=int, default=18)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--threads", type=int)
    return parser


def serve(step: Callable[[], None], wait: Callable[[], None] | None = None) -> None:
    """Warms up and prints `ready`. Then each line on stdin is a number of steps. Takes these steps and
    prints their times in seconds as a JSON list.

    With a GPU, the host goes on while the GPU computes, and `wait` waits for the GPU. Then up to five
    steps are timed together, as in `resnet bench`, and the mean of each group is printed."""
    together = 5 if wait else 1

    def group(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            step()
        if wait:
            wait()
        return (time.perf_counter() - start) / count

    group(WARMUP_STEPS)
    print("ready", flush=True)
    for line in sys.stdin:
        steps = int(line)
        groups = [min(together, steps - first) for first in range(0, steps, together)]
        print(json.dumps([group(count) for count in groups]), flush=True)
