"""A rival of `resnet bench --mode inference`: torchvision's networks in ONNX Runtime, on a CPU.

Exports the network of pytorch.py to a temporary file and runs it with all optimisations of the graph.
This file does not have the name of the package, because then its import would find this file instead.
scripts/peers/run starts it. The protocol is the same as for pytorch.py.
"""

import sys
import tempfile
from pathlib import Path

import onnxruntime
import torch

import protocol
from pytorch import network


def main() -> None:
    options = protocol.parser(__doc__).parse_args()
    if options.mode != "inference":
        sys.exit("error: ONNX Runtime does not train; give --mode inference")
    images = torch.randn(options.batch_size, 1, options.size, options.size)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # 0 means one thread for each physical core.
    settings.intra_op_num_threads = options.threads or 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        # The newer exporter needs one more package. After optimisation, its graph is the same.
        torch.onnx.export(
            network(options.depth, options.kind).eval(), (images,), path, input_names=["images"], dynamo=False
        )
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    feed = {"images": images.numpy()}
    protocol.serve(lambda: session.run(None, feed))


if __name__ == "__main__":
    main()
