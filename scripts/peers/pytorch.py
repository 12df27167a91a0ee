"""A rival of `resnet bench`: torchvision's and timm's networks in PyTorch, with the same work.

Prints `ready`. Then each line on stdin is a number of steps. Takes these steps and prints their times in
seconds as a JSON list. scripts/peers/run starts it.
"""

import argparse
import contextlib

import torch
import torchvision

import protocol


def parse() -> argparse.Namespace:
    parser = protocol.parser(__doc__)
    parser.add_argument("--variant", choices=["plain", "tuned", "compiled", "compiled-graphs"],
                        default="plain")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


RESNEXT = {50: "resnext50_32x4d", 101: "resnext101_32x8d"}


def network(depth: int, kind: str) -> torch.nn.Module:
    if kind == "seresnet":
        # torchvision has none.
        import timm

        return timm.create_model(f"seresnet{depth}", in_chans=1, num_classes=10)
    name = RESNEXT[depth] if kind == "resnext" else f"resnet{depth}"
    net = torchvision.models.get_model(name, num_classes=10)
    net.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    return net


def main() -> None:
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    tuned = options.variant != "plain"
    torch.backends.cudnn.benchmark = tuned
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tuned
    layout = torch.channels_last if tuned else torch.contiguous_format
    net = network(options.depth, options.kind).to(device, memory_format=layout)
    count = options.batch_size
    images = torch.randn(count, 1, options.size, options.size)
    images = images.to(device, memory_format=layout)
    labels = torch.randint(0, 10, (count,)).to(device)
    compiled = options.variant.startswith("compiled")
    # In this mode torch.compile records its kernels as CUDA graphs.
    mode = "reduce-overhead" if options.variant == "compiled-graphs" else None
    bf16 = options.precision == "bf16" and tuned

    def precision() -> contextlib.AbstractContextManager:
        return torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()

    if options.mode == "train":
        net.train()
        forward = torch.compile(net, mode=mode) if compiled else net
        sgd = torch.optim.SGD(
            net.parameters(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4,
            fused=True if tuned and device.type == "cuda" else None,
        )

        def work() -> None:
            # The gradients of a recorded step are in its memory, which the next step uses again.
            sgd.zero_grad()
            torch.compiler.cudagraph_mark_step_begin()
            with precision():
                loss = torch.nn.functional.cross_entropy(forward(images), labels)
            loss.backward()
            sgd.step()
    else:
        net.eval()
        if compiled:
            # Folds batch norm and packs weights.
            torch._inductor.config.freezing = True
            net = torch.compile(net, mode=mode)

        def work() -> None:
            with torch.inference_mode(not compiled), torch.no_grad(), precision():
                net(images)

    if device.type == "cuda":
        protocol.serve(work, lambda: torch.cuda.synchronize(device))
    else:
        protocol.serve(work)


if __name__ == "__main__":
    main()
