"""Measure the images per second of the training loop of the ResNet chapter of Dive into Deep Learning: its ResNet-18 in
PyTorch, batches of 256 images resized to 96×96 by worker processes, plain SGD with a learning rate of 0.05.

    python chapter_loop.py FOLDER [STEPS]      # FOLDER holds the IDX files of Fashion-MNIST, maybe as .gz
"""

import gzip
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.transforms import v2


def idx(folder: Path, name: str, header: int) -> np.ndarray:
    file = folder / name
    data = file.read_bytes() if file.exists() else gzip.decompress((folder / f"{name}.gz").read_bytes())
    return np.frombuffer(data, np.uint8, offset=header)


class Images(torch.utils.data.Dataset):
    def __init__(self, folder: Path):
        self.pixels = idx(folder, "train-images-idx3-ubyte", 16).reshape(-1, 28, 28)
        self.labels = idx(folder, "train-labels-idx1-ubyte", 8)
        self.change = v2.Compose(
            [v2.ToImage(), v2.Resize((96, 96)), v2.ToDtype(torch.float32, scale=True)]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        return self.change(self.pixels[index][..., None].copy()), int(self.labels[index])


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if inputs != outputs else nn.Identity()

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def network() -> nn.Module:
    layers = [nn.Conv2d(1, 64, 7, 2, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage in range(4):
        outputs = 64 * 2**stage
        layers += [Block(inputs, outputs, 2 if stage else 1), Block(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def main() -> None:
    folder, steps = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 12
    loader = torch.utils.data.DataLoader(Images(folder), 256, shuffle=True, num_workers=4)
    net, loss_of = network(), nn.CrossEntropyLoss()
    sgd = torch.optim.SGD(net.parameters(), lr=0.05)
    times = []
    start = time.perf_counter()
    for step, (images, labels) in enumerate(loader):
        sgd.zero_grad()
        loss = loss_of(net(images), labels)
        loss.backward()
        sgd.step()
        float(loss.detach())
        now = time.perf_counter()
        times.append(now - start)
        start = now
        if step + 1 == steps:
            break
    median = sorted(times[2:])[len(times[2:]) // 2]
    rate = 256 / median
    print(f"{rate:.1f} images per second; 10 epochs take {600_000 / rate:.0f} s of training")


if __name__ == "__main__":
    main()
