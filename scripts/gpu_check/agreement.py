"""How far two runs differ, tensor by tensor, and the comparison of two sides by several seeds."""

import json
import math
from array import array
from collections.abc import Callable
from pathlib import Path

from gpu_check.program import Failed, OutOfTime

SEEDS = 6

Tensors = dict[str, array]
Errors = dict[str, dict[str, float]]
"""For each kind of result, the error of each tensor."""


def read_tensors(file: Path) -> Tensors:
    """The float32 tensors of a safetensors file: a length, a table in JSON, and the numbers."""
    data = file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            first, last = entry["data_offsets"]
            tensors[name] = array("f", data[start + first:start + last])
    return tensors


def momentum(run: Path) -> Tensors:
    """The optimizer's momentum at the end of a run. After one step without weight decay, these are the
    gradients."""
    tensors = read_tensors(run / "checkpoints/last/optimizer.safetensors")
    return {name: values for name, values in tensors.items() if not name.startswith("loss_scale.")}


def statistics(run: Path) -> Tensors:
    """The running mean and variance of each batch norm at the end of a run."""
    tensors = read_tensors(run / "checkpoints/last/model.safetensors")
    return {name: values for name, values in tensors.items() if ".running_" in name}


def relative_error(expected: array, found: array) -> float:
    """The norm of the difference, relative to the norm of the expected values; infinite if one of them
    is not a number, because such an error must not pass."""
    error = math.dist(expected, found) / max(math.hypot(*expected), 1e-12)
    return error if math.isfinite(error) else math.inf


def errors(expected: Tensors, found: Tensors) -> dict[str, float]:
    if expected.keys() != found.keys() or not any(map(any, expected.values())):
        raise Failed("the two runs have other tensors, or no step was taken: all tensors are zero")
    return {name: relative_error(values, found[name]) for name, values in expected.items()}


def least(first: Errors, second: Errors) -> Errors:
    return {kind: {name: min(error, second[kind][name]) for name, error in tensors.items()}
            for kind, tensors in first.items()}


def worst(found: Errors) -> dict[str, float]:
    return {kind: max(tensors.values()) for kind, tensors in found.items()}


def over_seeds(
    compare: Callable[[int], Errors], tolerances: dict[str, float]
) -> tuple[dict[str, float], int]:
    """Compares two sides with one seed after the other, until every tensor was within its tolerance with
    one of the seeds, or no seed or no time is left. Returns the worst tensor's least error for each kind,
    and the number of seeds.

    Where the input of a ReLU is almost zero, rounding decides whether its gradient passes. One such place
    changes the gradients of the layers before it by 0.1 to 3 %, and the momentum after six steps by up to
    26 %. On a CPU, 5 of 80 pairs of runs that differ only in rounding had one. With other seeds it is
    elsewhere or nowhere, but a wrong result is wrong with every seed.
    """
    found = compare(0)
    seeds = 1
    while seeds < SEEDS and any(worst(found)[kind] > tolerance for kind, tolerance in tolerances.items()):
        try:
            found = least(found, compare(seeds))
        except OutOfTime:
            break
        seeds += 1
    return worst(found), seeds
