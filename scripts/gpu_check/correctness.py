"""Results on the device and on the CPU, and results that must not depend on how they are computed.

Each tolerance is about ten times the spread that was measured on a CPU (AMD EPYC, AVX2): the largest error
between runs that differ only in rounding. These runs had 1 or 2 threads, ATEN_CPU_CAPABILITY=default or
avx2, and ONEDNN_MAX_CPU_ISA=SSE41 or none; 6 to 12 pairs for each network. No GPU has been measured yet.

The networks are shallow, the images small and the steps few and short, because an untrained network
magnifies rounding: after 20 steps of ResNet-20 with a tenth of the usual learning rate, the worst tensor of
two such runs differs by 50 to 80 %.
"""

import json

from gpu_check.check import Check

# Spread in fp32: momentum 1.8e-5, statistics 6.7e-6. Faults that were tried with --device-flag, and the
# error of the momentum after six steps: a learning rate that is 2 % off 6e-1, label smoothing 2 % off 5e-1,
# a momentum of 0.89 instead of 0.9 5e-1, weight decay 2 % off 3.2e-4. Label smoothing that is 2 % off
# changes the gradients of one step by 2.1e-3. A batch norm with a momentum of 0.102 instead of 0.1 would
# change the running means by 2e-2.
FP32 = {"momentum": 2e-4, "statistics": 7e-5}
# In 16 bits the spread of the momentum is as large as the momentum. Spread of the statistics after eight
# steps: 2.3e-2 in bf16, 8.6e-3 in fp16. Fault: another seed 1.4.
HALF = {"statistics": 0.2}
# Spread of the loss of a run of eight steps: 3e-7, and of one checkpoint: 4e-9. Fault: a learning rate that
# is 2 % off 2.4e-3.
LOSS = 3e-6

BASE = {"epochs": "1", "precision": "fp32", "size": "32"}
BASIC = {"blocks": "1,1,1,1", "width": "16", "batch-size": "16"}
NETWORKS = {
    "basic blocks": BASIC,
    "bottlenecks": {"blocks": "1,1,1,1", "block": "bottleneck", "width": "8", "batch-size": "8"},
    "ResNet-18": {"depth": "18", "batch-size": "8"},
}
ONE_STEP = BASE | {"limit-batches": "1", "weight-decay": "0"}
# The fourth step is recorded as a CUDA graph, and it is the first that is replayed.
SIX_STEPS = BASE | BASIC | {"limit-batches": "6", "lr": "0.001"}


def gradients(check: Check) -> None:
    """The gradients of one step, and the statistics of batch norm."""
    for name, network in NETWORKS.items():
        flags = ONE_STEP | network
        check.agree(f"one step, {name}", (check.reference, flags), (check.device, flags), FP32)


def updates(check: Check) -> None:
    """Six steps with momentum, weight decay and a changing learning rate."""
    check.agree("six steps", (check.reference, SIX_STEPS), (check.device, SIX_STEPS), FP32)


def checkpoint(check: Check) -> None:
    """A checkpoint that one device wrote gives the same loss on the other."""
    run = str(check.train(check.device, SIX_STEPS)[1])
    losses = [check.program.run(side, "eval", {}, run).lines[0]["loss"]
              for side in (check.reference, check.device)]
    check.compare("loss of one checkpoint on both devices", relative(*losses), LOSS)


def graphs(check: Check) -> None:
    """Steps that are recorded and replayed give the same result as steps that are not."""
    if check.device.is_cuda():
        check.require("this libtorch can record CUDA graphs", check.facts["cuda"]["graphs"])
    for name, more, tolerances in [
        ("fp32", {}, FP32),
        ("fp32 in two parts, recomputed", {"accumulate": "2", "recompute": "true"}, FP32),
        ("bf16", {"precision": "bf16"}, HALF),
        ("fp16 with clipped gradients", {"precision": "fp16", "clip-grad-norm": "1"}, HALF),
    ]:
        flags = SIX_STEPS | more
        if check.device.is_cuda():
            warnings = check.train(check.device, flags)[0].warnings
            check.require(f"{name}: steps are replayed", "without CUDA graphs" not in warnings, warnings)
        check.agree(f"computed and replayed, {name}",
                    (check.device, flags | {"cuda-graphs": "false"}),
                    (check.device, flags | {"cuda-graphs": "true"}), tolerances)


def resume(check: Check) -> None:
    """A run in two parts gives the same result as a run in one."""
    device, flags = check.device, SIX_STEPS | {"schedule": "constant"}

    def losses(seed: int) -> dict[str, dict[str, float]]:
        seeded = flags | {"seed": str(seed)}
        whole, _ = check.train(device, seeded | {"epochs": "2"})
        _, run = check.train(device, seeded)
        resumed = check.program.run(device, "train", {"resume": str(run), "epochs": "2"})
        pair = whole.epochs()[-1], resumed.epochs()[-1]
        return {key: {key: relative(*(epoch[key] for epoch in pair))} for key in ("train_loss", "test_loss")}

    check.agree_over_seeds("in one part and in two", losses, {"train_loss": LOSS, "test_loss": LOSS})


def deterministic(check: Check) -> None:
    """With --deterministic, a run in two parts gives the same bits as a run in one."""
    device = check.device
    flags = SIX_STEPS | {"schedule": "constant", "deterministic": "true"}
    _, whole = check.train(device, flags | {"epochs": "2"})
    _, parts = check.train(device, flags)
    check.program.run(device, "train", {"resume": str(parts), "epochs": "2"})
    for file in ["model.safetensors", "optimizer.safetensors"]:
        bits = [(run / "checkpoints/last" / file).read_bytes() for run in (whole, parts)]
        check.require(f"{file} in one part and in two: equal bytes", bits[0] == bits[1])


def out_of_memory(check: Check) -> None:
    """A batch that is too large for the device is computed in micro-batches."""
    # In fp32, ResNet-50 keeps about 80 MB of each image for the backward pass.
    images = check.facts["cuda"]["devices"][0]["memory_bytes"] // 40_000_000
    flags = {"depth": "50", "size": "224", "precision": "fp32", "batch-size": str(images),
             "epochs": "1", "limit-batches": "1"}
    _, run = check.train(check.device, flags)
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    check.require(f"a batch of {images} images ran out of memory, and the run went on",
                  any(event["event"] == "out-of-memory" for event in events))


def relative(expected: float, found: float) -> float:
    return abs(expected - found) / abs(expected)
