"""This machine: which libraries and data the program gets, and what the report says of them."""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
from pathlib import Path

from gpu_check.program import Failed

ROOT = Path(__file__).resolve().parent.parent.parent
TORCH_VERSION = "2.11.0"
DATASET = "fashion-mnist"
DATA_FILES = [f"{split}-{kind}-ubyte.gz" for split in ("train", "t10k")
              for kind in ("images-idx3", "labels-idx1")]


def doctor(program: Path, environment: dict[str, str]) -> dict:
    """What the program says of this machine."""
    try:
        result = subprocess.run([str(program), "doctor", "--json"], capture_output=True, text=True,
                                env=os.environ | environment, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{program} doctor: {error}") from None
    if result.returncode:
        raise Failed(f"{program} doctor: {result.stderr.strip()}")
    return json.loads(result.stdout)


def python_libraries() -> list[Path]:
    """The folders of libtorch and of NVIDIA's libraries in the Python that runs this script."""
    # Importing torch would take seconds.
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        raise Failed("this Python has no torch")
    torch = Path(spec.submodule_search_locations[0])
    version = re.search(r"__version__ = ['\"](.*)['\"]", (torch / "version.py").read_text())[1]
    if version.partition("+")[0] != TORCH_VERSION:
        raise Failed(f"this Python has torch {version}; expected {TORCH_VERSION}")
    return [torch / "lib", *sorted(torch.parent.glob("nvidia/cu*/lib"))]


def find_libraries(program: Path, given: dict[str, str], wants_cuda: bool) -> dict[str, str]:
    """The environment with which the program finds a libtorch. It is empty if the program finds a
    suitable libtorch by itself, in the `given` environment; else libtorch is this Python's."""
    try:
        if doctor(program, given)["cuda"]["library"] or not wants_cuda:
            return {}
        reason = "the program's own libtorch has no CUDA"
    except Failed as failed:
        reason = str(failed)
    try:
        folders = python_libraries()
    except Failed as failed:
        raise Failed(f"no libtorch for {program}: {reason}; {failed}") from None
    inherited = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    return {"LD_LIBRARY_PATH": ":".join([*map(str, folders), *filter(None, inherited)])}


def find_data(program: Path, named: Path | None, folder: Path) -> dict[str, str]:
    """The environment with which the program finds Fashion-MNIST: in the named folder, in the folder of
    the program, or where the program searches by itself. The four files may also be directly in one of
    these folders: then `folder` gets a link, because the program expects a folder for each data set."""
    if named is None and "RESNET_DATA" in os.environ:
        return {}
    for place in [named] if named else [program.parent, program.parent / "datasets"]:
        if (place / DATASET).is_dir():
            return {"RESNET_DATA": str(place.resolve())}
        if all((place / file).exists() for file in DATA_FILES):
            (folder / DATASET).symlink_to(place.resolve())
            return {"RESNET_DATA": str(folder)}
    if named:
        raise Failed(f"--data {named}: neither a folder {DATASET} nor its four files are there")
    return {}


def description(program: Path, report: dict) -> dict[str, str]:
    """The lines about program and machine in the report. `report` is from `doctor`."""
    cuda, cpu = report["cuda"], report["cpu"]
    gpus = [f"{gpu['name']}, {gpu['memory_bytes'] / 2**30:.0f} GiB,"
            f" compute capability {gpu['compute_capability']}" for gpu in cuda["devices"]]
    digest = hashlib.sha256(program.read_bytes()).hexdigest()[:16]
    return {
        "program": f"resnet {report['resnet']}, SHA-256 {digest}…",
        "commit": commit(program),
        "machine": platform.platform(),
        "CPU": f"{cpu['model']}, {cpu['usable_cores']} cores",
        "GPU": "; ".join(gpus) or "none",
        "driver": driver(cuda),
        "CUDA": cuda["status"],
        "NVRTC": cuda["compiler_problem"] or "compiles",
        "libtorch": f"{report['libtorch']['version']} in {report['libtorch']['folder']}",
        "cuDNN": installed("nvidia-cudnn-cu13"),
        "cuBLAS": installed("nvidia-cublas"),
        "Fashion-MNIST": report["data"] or "not found",
    }


def commit(program: Path) -> str:
    """The commit of this tree. If the tree was copied without its repository, a file `commit` beside the
    program has it."""
    git = ["git", "-C", str(ROOT)]
    head = output([*git, "rev-parse", "HEAD"])
    if not head:
        file = program.parent / "commit"
        return file.read_text().strip() if file.exists() else "unknown: this tree is no git repository"
    return head + (" with changes" if output([*git, "status", "--porcelain", "-uno"]) else "")


def driver(cuda: dict) -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version,power.limit,clocks.max.sm",
             "--format=csv,noheader"]
    known = output(query).replace("\n", "; ")
    return known or f"for CUDA {cuda['driver_version']}" if cuda["driver_version"] else "none"


def installed(package: str) -> str:
    """The version of a package in this Python."""
    try:
        return f"{importlib.metadata.version(package)} in this Python"
    except importlib.metadata.PackageNotFoundError:
        return "not in this Python"


def output(command: list[str]) -> str:
    """What a command prints; nothing if it fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
