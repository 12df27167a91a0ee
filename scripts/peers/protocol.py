"""Code that the rivals in Python share: the options that describe the work, and the protocol of
scripts/peers/run (protocol.rs has the same in Rust).
"""

import argparse
import json
import sys
import time
from collections.abc import Callable


def parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--mode", choices=["train", "inference"], default="train")
    parser.add_argument("--depth", type=int, default=18)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--threads", type=int)
    return parser


def serve(step: Callable[[], None]) -> None:
    """Warms up and prints `ready`. Then each line on stdin is a number of steps. Takes these steps and
    prints their times in seconds as a JSON list."""
    for _ in range(3):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        print(json.dumps(seconds), flush=True)
