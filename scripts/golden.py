"""Write the golden files of tests/golden.rs: what PyTorch and torchvision compute.

    python3 scripts/golden.py                 # the small files in tests/golden/
    python3 scripts/golden.py --full DIR      # the named networks at full width, 5 GB, into DIR

Then run `cargo test --release --test golden`, or for the full check
`RESNET_GOLDEN=DIR cargo test --release --test golden -- --nocapture`.

Needs torch 2.11, torchvision 0.26, numpy and safetensors, and timm 1.0 for --full.

Weights, images and labels are not stored: this script and the test derive them from a seed and a
name (`Draw` here, `Draw` in tests/golden.rs). All references are computed in float64 and stored in
float32, so the test measures only the error of `resnet`.

If the input of a ReLU is zero except for rounding errors, the ReLU can be on in float32 and off in
float64. Then the gradients differ by much more than rounding errors, in PyTorch as well. For this
reason the test also runs the networks in float64, where this does not happen. And each small
network uses the first seed for which three results of PyTorch stay close to its float64: float32 with
oneDNN, its float32 without oneDNN, and its float64 with weights that are changed by about one
rounding error of float32. The errors of PyTorch's float32 are printed and stored in the file's
metadata as `float32_errors`. A network of full width has too many ReLUs for such a seed; the test
checks its float32 results only where a ReLU cannot make a difference.
"""

import argparse
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

HERE = Path(__file__).resolve().parent.parent / "tests" / "golden"
STEPS = 5
BATCH_SIZE = 8
# The largest error of PyTorch against itself for a seed of a small network: half of the test's
# tolerance.
STEADY = 5e-5


@dataclass(frozen=True)
class Draw:
    """Numbers that are a pure function of (seed, name, index), the same in Python and Rust."""

    seed: int

    def bits(self, name: str, count: int) -> np.ndarray:
        """24 random bits for each index: the FNV-1a hash of the name starts a splitmix64."""
        state = 0xCBF29CE484222325
        for byte in f"{self.seed}/{name}".encode():
            state = ((state ^ byte) * 0x00000100000001B3) % 2**64
        with np.errstate(over="ignore"):
            z = np.uint64(state) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(
                0x9E3779B97F4A7C15
            )
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            return (z ^ (z >> np.uint64(31))) >> np.uint64(40)

    def uniform(self, name: str, shape: list[int], low: float, high: float) -> Tensor:
        """Float32 values. They are computed in float64, so that both languages round them equally."""
        unit = self.bits(name, int(np.prod(shape))).astype(np.float64) / 2**24
        return torch.from_numpy((low + unit * (high - low)).astype(np.float32)).reshape(shape)

    def integers(self, name: str, count: int, below: int) -> Tensor:
        return torch.from_numpy((self.bits(name, count) % np.uint64(below)).astype(np.int64))

    def fill(self, network: nn.Module, spec: dict) -> None:
        last = "bn3.weight" if spec["block"] == "bottleneck" else "bn2.weight"
        ends_block = spec.get("placement", "original") == "original" and spec.get("residual", True)
        for name, tensor in named_tensors(network):
            scales_block = ends_block and name.endswith(last)
            tensor.data.copy_(self.tensor(name, list(tensor.shape), scales_block))

    def tensor(self, name: str, shape: list[int], scales_block: bool) -> Tensor:
        """A tensor of a network. `scales_block`: it is the scale of the last batch norm of a block. This
        scale is small, so that each block adds little and rounding errors stay small, even in the
        deepest network."""
        if len(shape) > 1:
            bound = float(np.sqrt(6 / np.prod(shape[1:])))
            return self.uniform(name, shape, -bound, bound)
        match name.rsplit(".", 1)[1]:
            case "weight" if scales_block:
                return self.uniform(name, shape, 0.05, 0.15)
            case "weight":
                return self.uniform(name, shape, 0.5, 1.0)
            case "running_var":
                return self.uniform(name, shape, 0.5, 1.5)
            case _:
                return self.uniform(name, shape, -0.1, 0.1)


def named_tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The state_dict in its order, without batch norm's step counters, which `resnet` does not have."""
    for name, tensor in network.state_dict(keep_vars=True).items():
        if not name.endswith("num_batches_tracked"):
            yield name, tensor


def learned(network: nn.Module) -> list[Tensor]:
    return [tensor for _, tensor in named_tensors(network) if tensor.requires_grad]


# --- Networks -------------------------------------------------------------------------------------


class Narrow(ResNet):
    """torchvision's network with `width` channels in the first stage instead of 64."""

    def __init__(self, block, layers: list[int], width: int, channels: int, classes: int):
        self.width = width
        super().__init__(block, layers)
        self.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.fc = nn.Linear(8 * width * block.expansion, classes)

    def _make_layer(self, block, planes: int, *args, **kwargs) -> nn.Sequential:
        if planes == 64:
            self.inplanes = self.width
        return super()._make_layer(block, planes * self.width // 64, *args, **kwargs)


class Reference(nn.Module):
    """The networks that torchvision does not have, from PyTorch's layers with torchvision's names, written from the
    papers: He et al. 2016 (shortcuts, networks for CIFAR), He et al. 2016b (figure 4: where batch norm, ReLU and the
    sum stand), He et al. 2019 (deep stem, average pooling on the shortcut), Zagoruyko and Komodakis 2016 (wide), Xie
    et al. 2017 (groups), Hu et al. 2018 (squeeze-and-excitation), and the ResNet chapter of Dive into Deep Learning
    (shortcut `plain-conv`, biases)."""

    def __init__(self, spec: dict):
        super().__init__()
        width, half, channels = spec["width"], spec["width"] // 2, spec["channels"]
        bias = has_biases(spec)
        self.placement = spec.get("placement", "original")
        self.pools = spec["stem"] != "cifar"
        match spec["stem"]:
            case "imagenet":
                self.conv1: nn.Module = nn.Conv2d(channels, width, 7, 2, 3, bias=bias)
            case "cifar":
                self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=bias)
            case "deep" | "tiered":
                first = half if spec["stem"] == "deep" else 3 * (half // 4)
                self.conv1 = nn.Sequential(
                    nn.Conv2d(channels, first, 3, 2, 1, bias=bias),
                    nn.BatchNorm2d(first),
                    nn.ReLU(),
                    nn.Conv2d(first, half, 3, 1, 1, bias=bias),
                    nn.BatchNorm2d(half),
                    nn.ReLU(),
                    nn.Conv2d(half, width, 3, 1, 1, bias=bias),
                )
        self.bn1 = nn.Identity() if self.placement == "pre-activation" else nn.BatchNorm2d(width)
        self.stages = len(spec["blocks"])
        inputs = width
        for stage, blocks in enumerate(spec["blocks"]):
            planes, layer = width * spec.get("widen", 1) * 2**stage, nn.Sequential()
            for index in range(blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                block = Block(spec, inputs, planes, stride, stage)
                block.shares = block.shares or (stage == 0 and index == 0)
                layer.append(block)
                inputs = planes * expansion(spec)
            self.add_module(f"layer{stage + 1}", layer)
        self.norm = nn.BatchNorm2d(inputs) if self.placement == "pre-activation" else nn.Identity()
        self.fc = nn.Linear(inputs, spec["classes"])

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x))
        if self.placement != "pre-activation":
            x = F.relu(x)
        if self.pools:
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        if self.placement in ("pre-activation", "relu-only-pre-activation"):
            x = F.relu(self.norm(x))
        return self.fc(x.mean(dim=(2, 3)))


def expansion(spec: dict) -> int:
    return 4 if spec["block"] == "bottleneck" else 1


def has_biases(spec: dict) -> bool:
    return spec.get("conv_bias", spec["shortcut"] == "plain-conv")


class Block(nn.Module):
    def __init__(self, spec: dict, inputs: int, planes: int, stride: int, stage: int):
        super().__init__()
        self.placement = spec.get("placement", "original")
        self.residual, self.scale = spec.get("residual", True), spec.get("residual_scale", 1.0)
        outputs, bias = planes * expansion(spec), has_biases(spec)
        if spec["block"] == "basic":
            convs = [(inputs, planes, 3, stride, 1), (planes, outputs, 3, 1, 1)]
        else:
            groups = spec.get("groups") or {"count": 1, "width": planes >> stage}
            inner = groups["count"] * groups["width"] * 2**stage
            convs = [
                (inputs, inner, 1, 1, 1),
                (inner, inner, 3, stride, groups["count"]),
                (inner, outputs, 1, 1, 1),
            ]
        self.count = len(convs)
        for index, (before, after, kernel, step, groups) in enumerate(convs, 1):
            if self.placement == "pre-activation":
                self.add_module(f"bn{index}", nn.BatchNorm2d(before))
            conv = nn.Conv2d(before, after, kernel, step, kernel // 2, groups=groups, bias=bias)
            self.add_module(f"conv{index}", conv)
            norm_is_later = self.placement == "norm-after-add" and index == self.count
            if self.placement != "pre-activation" and not norm_is_later:
                self.add_module(f"bn{index}", nn.BatchNorm2d(after))
        self.se = Gate(outputs) if spec.get("se") else nn.Identity()
        changes = stride > 1 or inputs != outputs
        self.shares = changes
        self.downsample: nn.Module = nn.Identity()
        if changes and self.residual:
            self.downsample = shortcut(spec, inputs, outputs, stride)
        if self.placement == "norm-after-add":
            self.add_module(f"bn{self.count}", nn.BatchNorm2d(outputs))

    def layers(self, index: int) -> tuple[nn.Module, nn.Module]:
        return self.get_submodule(f"conv{index}"), self.get_submodule(f"bn{index}")

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for index in range(1, self.count + 1):
            conv, norm = self.layers(index)
            last = index == self.count
            match self.placement:
                case "original":
                    y = norm(conv(y))
                    y = y if last else F.relu(y)
                case "norm-after-add":
                    y = conv(y) if last else F.relu(norm(conv(y)))
                case "relu-before-add":
                    y = F.relu(norm(conv(y)))
                case "relu-only-pre-activation":
                    y = norm(conv(F.relu(y)))
                case "pre-activation":
                    y = F.relu(norm(y))
                    if index == 1 and self.shares:
                        x = y
                    y = conv(y)
        y = self.scale * self.se(y)
        if self.residual:
            y = y + self.downsample(x)
        match self.placement:
            case "original":
                return F.relu(y)
            case "norm-after-add":
                return F.relu(self.layers(self.count)[1](y))
        return y


def shortcut(spec: dict, inputs: int, outputs: int, stride: int) -> nn.Module:
    norm = [] if spec.get("placement") == "pre-activation" else [nn.BatchNorm2d(outputs)]
    match spec["shortcut"]:
        case "projection":
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=has_biases(spec))
            return nn.Sequential(conv, *norm)
        case "plain-conv":
            return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride))
        case "zero-pad":
            return ZeroPad(outputs - inputs, stride)
        case "avg-pool":
            pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
            conv = nn.Conv2d(inputs, outputs, 1, bias=has_biases(spec))
            return nn.Sequential(pool if stride > 1 else nn.Identity(), conv, *norm)
    raise ValueError(spec["shortcut"])


class ZeroPad(nn.Module):
    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.channels))


class Gate(nn.Module):
    """Squeeze-and-excitation with the reduction 16, rounded to a multiple of 8 as in timm."""

    def __init__(self, channels: int):
        super().__init__()
        reduced = max(8, int(channels / 16 + 4) // 8 * 8)
        self.fc1, self.fc2 = nn.Conv2d(channels, reduced, 1), nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(means))))


class TimmPreActivation(nn.Module):
    """timm's `resnetv2_50`, `resnetv2_101` or `resnetv2_152` with this program's names."""

    def __init__(self, name: str, classes: int):
        super().__init__()
        self.trunk = timm_network(name, num_classes=0)
        self.fc = nn.Linear(self.trunk.num_features, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.trunk(x))

    def state_dict(self, *args, **kwargs) -> dict[str, Tensor]:
        renamed = {}
        for name, tensor in super().state_dict(*args, **kwargs).items():
            name = name.removeprefix("trunk.").replace("stem.conv", "conv1")
            name = re.sub(r"stages\.(\d)\.blocks", lambda m: f"layer{int(m[1]) + 1}", name)
            name = re.sub(r"\bnorm(\d)", r"bn\1", name).replace("downsample.conv", "downsample.0")
            renamed[name] = tensor

        # timm registers the shortcut first.
        def order(name: str) -> tuple:
            parts = name.split(".")
            if not name.startswith("layer"):
                return (0 if parts[0] == "conv1" else 9, parts[0] == "fc", 0, False)
            return (int(parts[0][5:]), int(parts[1]), parts[2] == "downsample", parts[2][-1])

        def place(name: str) -> tuple:
            return tuple(str(part).zfill(3) for part in order(name))

        return {name: renamed[name] for name in sorted(renamed, key=place)}


def timm_network(name: str, **options) -> nn.Module:
    # Only --full needs timm.
    import timm

    return timm.create_model(name, **options)


# --- Cases ----------------------------------------------------------------------------------------


@dataclass
class Sgd:
    """The options of `torch.optim.SGD`. Without `decay_all`, biases and batch norm have no weight decay."""

    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    decay_all: bool = True

    def optimizer(self, network: nn.Module, rate: float) -> torch.optim.SGD:
        groups = [
            {"params": [p for p in learned(network) if p.dim() > 1]},
            {"params": [p for p in learned(network) if p.dim() == 1]},
        ]
        if not self.decay_all:
            groups[1]["weight_decay"] = 0.0
        options = {k: v for k, v in asdict(self).items() if k != "decay_all"}
        return torch.optim.SGD(groups, lr=rate, **options)


@dataclass
class Case:
    """A network and how it is trained. The file's metadata holds both for the test."""

    build: Callable[[], nn.Module]
    spec: dict
    sgd: Sgd = field(default_factory=Sgd)
    rate: float = 0.005
    label_smoothing: float = 0.0
    # About the number of values that are stored of each tensor after the last step.
    sample: int = 64

    def metadata(self, seed: int) -> dict:
        return {
            "seed": seed,
            "spec": self.spec,
            "sgd": asdict(self.sgd),
            "rate": self.rate,
            "label_smoothing": self.label_smoothing,
            "batch_size": BATCH_SIZE,
            "steps": STEPS,
            "sample": self.sample,
        }

    def batch(self, draw: Draw, step: int) -> tuple[Tensor, Tensor]:
        channels, size, classes = (self.spec[key] for key in ("channels", "size", "classes"))
        shape = [BATCH_SIZE, channels, size, size]
        return (
            draw.uniform(f"images.{step}", shape, -2.0, 2.0),
            draw.integers(f"labels.{step}", BATCH_SIZE, classes),
        )

    def results(self, seed: int, dtype: torch.dtype, noise: float = 0.0) -> dict[str, Tensor]:
        """The results that the test compares, by name. The tensors of a network are concatenated."""
        draw = Draw(seed)
        network = self.build()
        draw.fill(network, self.spec)
        network = network.to(dtype)
        for name, tensor in named_tensors(network) if noise else ():
            tensor.data *= 1 + draw.uniform(f"{name}.noise", list(tensor.shape), -noise, noise)
        optimizer = self.sgd.optimizer(network, self.rate)
        results, losses = {}, []
        for step in range(STEPS):
            images, labels = self.batch(draw, step)
            images = images.to(dtype)
            if step == 0:
                with torch.no_grad():
                    results["eval_logits"] = network.eval()(images)
            logits = network.train()(images)
            loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            losses.append(loss.detach())
            if step == 0:
                results["train_logits"] = logits.detach()
                results["gradients"] = flat(tensor.grad for tensor in learned(network))
                results["statistics"] = flat(
                    tensor for name, tensor in named_tensors(network) if ".running_" in name
                )
            optimizer.step()
        results["losses"] = torch.stack(losses)
        results["trained"] = flat(self.sampled(tensor) for _, tensor in named_tensors(network))
        return results

    def sampled(self, tensor: Tensor) -> Tensor:
        return tensor.flatten()[:: max(1, tensor.numel() // self.sample)]


def flat(tensors: Iterator[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def split(vector: Tensor, like: list[Tensor]) -> list[Tensor]:
    return list(vector.split([tensor.numel() for tensor in like]))


def own_errors(case: Case, single: dict[str, Tensor], double: dict[str, Tensor]) -> dict[str, float]:
    """Largest relative errors of PyTorch's float32, computed for each tensor as in
    tests/golden.rs."""
    network = case.build()
    named = list(named_tensors(network))
    tensors_of = {
        "gradients": learned(network),
        "statistics": [tensor for name, tensor in named if ".running_" in name],
        "trained": [case.sampled(tensor) for _, tensor in named],
    }
    errors = {}
    for key, expected in double.items():
        like = tensors_of.get(key, [expected])
        largest = expected.abs().max()
        worst = 0.0
        for a, b in zip(split(single[key].flatten(), like), split(expected.flatten(), like)):
            scale = b.abs().max()
            # Zero except for rounding errors, such as the gradient of a bias before a batch norm.
            scale = largest if scale < 1e-8 * largest else scale
            worst = max(worst, float((a.double() - b).abs().max() / scale))
        errors[key] = worst
    return errors


def spec(
    block, blocks, width=64, stem="imagenet", shortcut="projection", classes=5, size=64, **variant
):
    return {
        "block": "bottleneck" if block is Bottleneck else "basic",
        "blocks": blocks,
        "width": width,
        "stem": stem,
        "shortcut": shortcut,
        "channels": 3,
        "classes": classes,
        "size": size,
        **variant,
    }


DEPTHS = {
    18: (BasicBlock, [2, 2, 2, 2]),
    34: (BasicBlock, [3, 4, 6, 3]),
    50: (Bottleneck, [3, 4, 6, 3]),
    101: (Bottleneck, [3, 4, 23, 3]),
    152: (Bottleneck, [3, 8, 36, 3]),
}


def small_cases() -> dict[str, Case]:
    cases = {}
    for depth, (block, blocks) in DEPTHS.items():
        build = partial(Narrow, block, blocks, 2, 3, 5)
        cases[f"resnet{depth}"] = Case(build, spec(block, blocks, width=2, size=40))
    chapter = spec(BasicBlock, [2, 2, 2, 2], width=2, size=40, shortcut="plain-conv")
    plain_sgd = Sgd(momentum=0.0, weight_decay=0.0)
    cases["chapter18"] = Case(partial(Reference, chapter), chapter, plain_sgd)
    cifar = partial(spec, BasicBlock, [3, 3, 3], width=2, stem="cifar", size=16)
    projection, zero_pad = cifar(shortcut="projection"), cifar(shortcut="zero-pad")
    cases["cifar20-projection"] = Case(
        partial(Reference, projection),
        projection,
        Sgd(nesterov=True, decay_all=False),
        label_smoothing=0.1,
    )
    # A large weight decay, so that the test fails if the weight decay skips the wrong tensors.
    cases["cifar20-zero-pad"] = Case(
        partial(Reference, zero_pad), zero_pad, Sgd(weight_decay=0.1, decay_all=False)
    )
    for name, variant in variants().items():
        cases[name] = Case(partial(Reference, variant), variant)
    return cases


def variants() -> dict[str, dict]:
    """Networks that differ from the original in one thing or several."""
    basic = partial(spec, BasicBlock, [1, 2, 1], width=4, stem="cifar", size=12)
    bottleneck = partial(spec, Bottleneck, [1, 2, 1, 1], width=4, size=36)
    found = {}
    for placement in (
        "pre-activation",
        "norm-after-add",
        "relu-before-add",
        "relu-only-pre-activation",
    ):
        found[f"{placement}-basic"] = basic(placement=placement)
        found[f"{placement}-bottleneck"] = bottleneck(placement=placement)
    found["plain-basic"] = basic(residual=False)
    found["plain-pre-activation"] = bottleneck(residual=False, placement="pre-activation")
    found["residual-scale"] = basic(residual_scale=0.5)
    found["deep-stem"] = bottleneck(stem="deep")
    found["tiered-stem"] = spec(Bottleneck, [1, 1, 1, 1], width=8, size=36, stem="tiered")
    found["avg-pool"] = bottleneck(stem="deep", shortcut="avg-pool", size=42)
    found["avg-pool-pre-activation"] = basic(shortcut="avg-pool", placement="pre-activation", size=11)
    found["zero-pad-pre-activation"] = basic(shortcut="zero-pad", placement="pre-activation")
    found["wide"] = basic(widen=2, placement="pre-activation")
    found["biases"] = basic(conv_bias=True)
    found["plain-conv-without-biases"] = basic(conv_bias=False, shortcut="plain-conv")
    found["groups"] = bottleneck(groups={"count": 4, "width": 2})
    found["group-width"] = bottleneck(groups={"count": 1, "width": 8})
    found["se-basic"] = basic(se=True)
    found["se-bottleneck"] = bottleneck(se=True)
    found["all-together"] = bottleneck(
        se=True,
        groups={"count": 2, "width": 4},
        placement="pre-activation",
        stem="deep",
        shortcut="avg-pool",
        residual_scale=0.5,
        widen=2,
    )
    return found


def full_cases() -> dict[str, Case]:
    """The networks of torchvision, of timm, and of the papers, as `resnet shapes --list` names them."""
    at = partial(spec, classes=1000)
    cases = {}
    for depth, (block, blocks) in DEPTHS.items():
        build = partial(torchvision.models.get_model, f"resnet{depth}")
        cases[f"resnet{depth}"] = Case(build, at(block, blocks), sample=2**40)
    blocks50, blocks101 = DEPTHS[50][1], DEPTHS[101][1]
    for name, blocks, count, width in [
        ("resnext50_32x4d", blocks50, 32, 4),
        ("resnext101_32x8d", blocks101, 32, 8),
        ("resnext101_64x4d", blocks101, 64, 4),
        ("wide_resnet50_2", blocks50, 1, 128),
        ("wide_resnet101_2", blocks101, 1, 128),
    ]:
        build = partial(torchvision.models.get_model, name)
        cases[name] = Case(build, at(Bottleneck, blocks, groups={"count": count, "width": width}))
    for name, variant in {
        "resnet200": {"blocks": [3, 24, 36, 3]},
        "resnet50c": {"stem": "deep"},
        "resnet50d": {"stem": "deep", "shortcut": "avg-pool"},
        "resnet50t": {"stem": "tiered", "shortcut": "avg-pool"},
        "resnet101d": {"blocks": blocks101, "stem": "deep", "shortcut": "avg-pool"},
        "seresnet50": {"se": True},
        "seresnet101": {"blocks": blocks101, "se": True},
        "seresnext50_32x4d": {"se": True, "groups": {"count": 32, "width": 4}},
    }.items():
        variant = {"blocks": blocks50, **variant}
        cases[name] = Case(partial(timm_network, name), at(Bottleneck, **variant))
    # With these weights, the gradients of the deepest networks are large. At the usual rate, a rounding error of float64
    # grows in five steps until nothing is equal.
    steep, usual = 1e-9, 0.005
    pre_activation = partial(at, Bottleneck, placement="pre-activation")
    for depth in (50, 101, 152):
        name, variant = f"resnetv2_{depth}", pre_activation(DEPTHS[depth][1])
        rate = steep if depth == 152 else usual
        cases[name] = Case(partial(TimmPreActivation, name, 1000), variant, rate=rate)
    cifar = partial(spec, width=16, stem="cifar", classes=10, size=32)
    wide = {"placement": "pre-activation"}
    for name, reference in {
        "resnet20": cifar(BasicBlock, [3] * 3),
        "resnet56": cifar(BasicBlock, [9] * 3),
        "resnet110": cifar(BasicBlock, [18] * 3),
        "resnet164": cifar(Bottleneck, [18] * 3),
        "resnet1202": cifar(BasicBlock, [200] * 3),
        "plain20": cifar(BasicBlock, [3] * 3, residual=False),
        "plain56": cifar(BasicBlock, [9] * 3, residual=False),
        "preact_resnet200": pre_activation([3, 24, 36, 3]),
        "preact_resnet164": cifar(Bottleneck, [18] * 3, placement="pre-activation"),
        "preact_resnet1001": cifar(Bottleneck, [111] * 3, placement="pre-activation"),
        "wrn_28_10": cifar(BasicBlock, [4] * 3, widen=10, **wide),
        "wrn_40_4": cifar(BasicBlock, [6] * 3, widen=4, **wide),
        "wrn_16_8": cifar(BasicBlock, [2] * 3, widen=8, **wide),
    }.items():
        rate = steep if name == "plain56" or name.startswith("preact") else usual
        cases[name] = Case(partial(Reference, reference), reference, rate=rate)
    return cases


def steady_seed(case: Case) -> int:
    def off(seed: int, double: dict[str, Tensor], dtype: torch.dtype, noise: float, onednn: bool):
        torch.backends.mkldnn.enabled = onednn
        errors = own_errors(case, case.results(seed, dtype, noise), double)
        torch.backends.mkldnn.enabled = True
        return max(errors.values()) > STEADY

    variants = [
        (torch.float32, 0.0, True),
        (torch.float32, 0.0, False),
        (torch.float64, 3e-7, True),
        (torch.float64, -3e-7, True),
        (torch.float64, 1e-6, True),
    ]
    for seed in itertools.count():
        double = case.results(seed, torch.float64)
        if not any(off(seed, double, *variant) for variant in variants):
            return seed


def write_network(path: Path, case: Case, seed: int, *, steady: bool) -> None:
    double = case.results(seed, torch.float64)
    errors = own_errors(case, case.results(seed, torch.float32), double)
    metadata = case.metadata(seed)
    metadata["tensors"] = [[name, list(t.shape)] for name, t in named_tensors(case.build())]
    metadata["float32_errors"] = errors
    metadata["steady"] = steady
    write(path, double, metadata)
    print(f"{path.stem}: seed {seed};", ", ".join(f"{k} {v:.1e}" for k, v in errors.items()), flush=True)


def write(path: Path, tensors: dict[str, Tensor], metadata: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    single = {name: tensor.float().contiguous() for name, tensor in tensors.items()}
    save_file(single, path, {"case": json.dumps(metadata)})


# --- Preprocessing, and the training loop as a whole ----------------------------------------------

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]


def preprocess(pixels: Tensor, size: int) -> Tensor:
    """Bytes to normalised floats [N, C, size, size], as in torchvision's transforms: scale to
    [0, 1], resize bilinearly with antialiasing, and normalise. Antialiasing changes nothing if the
    image becomes larger."""
    mean, std = (torch.tensor(v, dtype=torch.float64).reshape(1, -1, 1, 1) for v in (MEAN, STD))
    resized = F.interpolate(
        pixels.double() / 255, (size, size), mode="bilinear", align_corners=False, antialias=True
    )
    return (resized - mean) / std


def pixels(draw: Draw, shape: list[int]) -> Tensor:
    return draw.integers("pixels", int(np.prod(shape)), 256).to(torch.uint8).reshape(shape)


def write_preprocess(path: Path) -> None:
    shape, sizes = [2, 3, 14, 11], [7, 12, 14, 17]
    images = pixels(Draw(0), shape)
    metadata = {"seed": 0, "shape": shape, "sizes": sizes, "mean": MEAN, "std": STD}
    write(path, {str(size): preprocess(images, size) for size in sizes}, metadata)


def write_training(path: Path) -> None:
    """Five steps of the training loop. Bytes are resized and normalised. The gradients of two
    micro-batches are summed, and the sum is clipped. Labels are smoothed. SGD has Nesterov momentum,
    and weight decay only for weights."""
    seed, rate, max_norm, smoothing = 0, 0.05, 0.5, 0.1
    network_spec = spec(BasicBlock, [1, 1, 1], width=4, stem="cifar", size=16)
    sgd = Sgd(nesterov=True, weight_decay=0.01, decay_all=False)
    draw = Draw(seed)
    shape = [STEPS * BATCH_SIZE, 3, 12, 12]
    images = preprocess(pixels(draw, shape), network_spec["size"])
    labels = draw.integers("labels", shape[0], network_spec["classes"])
    network = Reference(network_spec)
    draw.fill(network, network_spec)
    network = network.double().train()
    optimizer = sgd.optimizer(network, rate)
    loss_sum = 0.0
    norms = []
    for step in range(STEPS):
        optimizer.zero_grad()
        for half in range(2):
            start = step * BATCH_SIZE + half * BATCH_SIZE // 2
            micro = slice(start, start + BATCH_SIZE // 2)
            logits = network(images[micro])
            loss = F.cross_entropy(logits, labels[micro], label_smoothing=smoothing) / 2
            loss.backward()
            loss_sum += float(loss.detach())
        norms.append(float(nn.utils.clip_grad_norm_(network.parameters(), max_norm)))
        optimizer.step()
    assert min(norms) > max_norm, f"the gradients are not clipped: norms {norms}"
    metadata = {
        "seed": seed,
        "spec": network_spec,
        "sgd": asdict(sgd),
        "rate": rate,
        "label_smoothing": smoothing,
        "batch_size": BATCH_SIZE,
        "accumulate": 2,
        "clip_grad_norm": max_norm,
        "shape": shape,
        "mean": MEAN,
        "std": STD,
    }
    trained = flat(tensor for _, tensor in named_tensors(network))
    write(path, {"trained": trained, "loss": torch.tensor(loss_sum / STEPS)}, metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--full", type=Path, metavar="DIR", help="write the networks at full width into this folder"
    )
    folder = parser.parse_args().full
    if folder is not None:
        for name, case in full_cases().items():
            write_network(folder / f"{name}.safetensors", case, seed=0, steady=False)
        return
    for name, case in small_cases().items():
        write_network(HERE / "networks" / f"{name}.safetensors", case, steady_seed(case), steady=True)
    write_preprocess(HERE / "preprocess.safetensors")
    write_training(HERE / "training.safetensors")


if __name__ == "__main__":
    main()
