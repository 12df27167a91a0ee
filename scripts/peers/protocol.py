"""What the rivals in Python share: the options that say the work, and the protocol that scripts/peers/run
speaks (protocol.rs has the same in Rust).
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
    """Warms up, prints `ready`, then for each line on stdin takes the steps that are asked for there
    and prints their seconds as a JSON list."""
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
