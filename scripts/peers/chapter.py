"""The training loop of the ResNet chapter of Dive into Deep Learning in PyTorch: its ResNet-18, batches of 256 images
resized to 96×96 by four worker processes, pixels in [0, 1], Xavier initialization, plain SGD with a learning rate of
0.05, 10 epochs. FOLDER holds the IDX files of Fashion-MNIST, maybe as .gz.

    python chapter.py FOLDER --metrics FILE         # trains; FILE gets the lines of a run's metrics.jsonl
    python chapter.py FOLDER --steps 20             # measures the images per second of 20 steps

With --metrics, the run is saved beside FILE after each epoch. The same command continues a run that was stopped.
"""

import argparse
import gzip
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.transforms import v2

BATCH = 256


def idx(folder: Path, name: str, header: int) -> np.ndarray:
    file = folder / name
    data = file.read_bytes() if file.exists() else gzip.decompress((folder / f"{name}.gz").read_bytes())
    return np.frombuffer(data, np.uint8, offset=header)


class Images(torch.utils.data.Dataset):
    def __init__(self, folder: Path, part: str):
        self.pixels = idx(folder, f"{part}-images-idx3-ubyte", 16).reshape(-1, 28, 28)
        self.labels = idx(folder, f"{part}-labels-idx1-ubyte", 8)
        self.change = v2.Compose(
            [v2.ToImage(), v2.Resize((96, 96)), v2.ToDtype(torch.float32, scale=True)]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        return self.change(self.pixels[index][..., None].copy()), int(self.labels[index])


def batches(images: Images, shuffle: bool) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(images, BATCH, shuffle=shuffle, num_workers=4)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if inputs != outputs else nn.Identity()

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def initialize(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(layer.weight)


def network() -> nn.Module:
    layers = [nn.Conv2d(1, 64, 7, 2, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage in range(4):
        outputs = 64 * 2**stage
        layers += [Block(inputs, outputs, 2 if stage else 1), Block(outputs, outputs, 1)]
        inputs = outputs
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    return net.apply(initialize)


def steps_of(net: nn.Module, sgd: torch.optim.Optimizer, loader: torch.utils.data.DataLoader):
    """Trains for one epoch. After each step, gives the loss, the correct predictions and the images of its batch."""
    net.train()
    for images, labels in loader:
        sgd.zero_grad()
        logits = net(images)
        loss = nn.functional.cross_entropy(logits, labels)
        loss.backward()
        sgd.step()
        yield float(loss.detach()), int((logits.argmax(1) == labels).sum()), len(labels)


@torch.no_grad()
def evaluate(net: nn.Module, loader: torch.utils.data.DataLoader) -> tuple[float, float]:
    """The mean loss and the accuracy."""
    net.eval()
    loss, correct, count = 0.0, 0, 0
    for images, labels in loader:
        logits = net(images)
        loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
        correct += int((logits.argmax(1) == labels).sum())
        count += len(labels)
    return loss / count, correct / count


def measure(net: nn.Module, sgd: torch.optim.Optimizer, loader: torch.utils.data.DataLoader, steps: int) -> None:
    times, start = [], time.perf_counter()
    for step, _ in enumerate(steps_of(net, sgd, loader)):
        now = time.perf_counter()
        times.append(now - start)
        start = now
        if step + 1 == steps:
            break
    # The first steps start the workers and choose algorithms.
    warm = sorted(times[2:] or times)
    rate = BATCH / warm[len(warm) // 2]
    print(f"{rate:.1f} images per second; 10 epochs take {600_000 / rate:.0f} s of training")


def train(net: nn.Module, sgd: torch.optim.Optimizer, options: argparse.Namespace) -> None:
    training, test = (batches(Images(options.folder, part), part == "train") for part in ("train", "t10k"))
    saved = options.metrics.with_suffix(".pt")
    done = 0
    if saved.exists():
        state = torch.load(saved)
        done = state["epoch"]
        net.load_state_dict(state["net"])
        torch.set_rng_state(state["random"])
    for epoch in range(done + 1, options.epochs + 1):
        start = time.perf_counter()
        sums = [sum(column) for column in zip(*(
            (loss * count, correct, count) for loss, correct, count in steps_of(net, sgd, training)
        ))]
        seconds = time.perf_counter() - start
        test_loss, test_accuracy = evaluate(net, test)
        line = {
            "event": "epoch", "epoch": epoch, "step": epoch * len(training), "lr": options.lr,
            "train_loss": sums[0] / sums[2], "train_accuracy": sums[1] / sums[2],
            "test_loss": test_loss, "test_accuracy": test_accuracy,
            "images_per_second": sums[2] / seconds, "seconds": seconds,
        }
        with options.metrics.open("a") as file:
            print(json.dumps(line), file=file)
        state = {"epoch": epoch, "net": net.state_dict(), "random": torch.get_rng_state()}
        torch.save(state, saved)
        print(f"epoch {epoch}: test accuracy {test_accuracy:.4f}, {seconds:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--metrics", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    net = network()
    sgd = torch.optim.SGD(net.parameters(), lr=options.lr)
    if options.metrics:
        train(net, sgd, options)
    else:
        measure(net, sgd, batches(Images(options.folder, "train"), True), options.steps)


if __name__ == "__main__":
    main()
