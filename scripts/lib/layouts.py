"""The layouts of libtorch's folder that the program meets, and whether NVRTC compiles in each of them."""

import json
import os
import shutil
import subprocess
from pathlib import Path

SETUP = Path(__file__).resolve().parent / "libtorch.sh"


def problems(resnet: Path, libtorch: Path, scratch: Path) -> list[tuple[str, str | None]]:
    """Each layout with the compiler's problem; None if a kernel was compiled."""
    libraries = {path.name: path.resolve() for path in found(libtorch)}
    layouts = [
        ("one folder, as setup unpacks wheels", one_folder),
        ("Python's packages, as $LIBTORCH", packages),
        ("the official zip, with hashed names", official_zip),
    ]
    result = []
    for number, (name, lay_out) in enumerate(layouts):
        folder = scratch / str(number)
        result.append((name, compiler_problem(resnet, lay_out(folder, libraries))))
        shutil.rmtree(folder)
    return result


def found(libtorch: Path) -> list[Path]:
    """All libraries in libtorch's folder, and in NVIDIA's packages beside it."""
    folders = [libtorch, *libtorch.glob("../../nvidia/*/lib")]
    return [path for folder in folders for path in folder.iterdir() if ".so" in path.name]


def link(folder: Path, libraries: dict[str, Path]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in libraries.items():
        (folder / name).symlink_to(path)
    return folder


def one_folder(folder: Path, libraries: dict[str, Path]) -> Path:
    return link(folder / "lib", libraries)


def packages(folder: Path, libraries: dict[str, Path]) -> Path:
    torch = {name: path for name, path in libraries.items()
             if name.startswith(("libtorch", "libc10", "libcaffe2", "libgomp", "libshm"))}
    nvidia = {name: path for name, path in libraries.items() if name not in torch}
    link(folder / "nvidia/cu13/lib", nvidia)
    for package in ["cudnn", "nccl", "nvshmem", "cusparselt"]:
        (folder / "nvidia" / package).symlink_to("cu13")
    return link(folder / "torch/lib", torch)


def official_zip(folder: Path, libraries: dict[str, Path]) -> Path:
    def hashed(name: str) -> str:
        stem, rest = name.split(".so", 1)
        is_renamed = stem in ["libnvrtc", "libnvrtc-builtins", "libcudart"]
        return f"{stem}-0a1b2c3d.so{rest}" if is_renamed else name

    lib = link(folder / "lib", {hashed(name): path for name, path in libraries.items()})
    script = f'root=/ source "{SETUP}"; libtorch_link_names "$1"'
    subprocess.run(["bash", "-ec", script, "-", str(lib)], check=True)
    return lib


def compiler_problem(resnet: Path, lib: Path) -> str | None:
    # A search path would lead NVRTC to its second part. So the loader gets the libraries themselves, as with the run
    # path of a program that was built with this folder.
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    preloaded = " ".join(str(lib / name) for name in ["libtorch.so", "libtorch_cpu.so", "libc10.so"])
    result = subprocess.run([str(resnet), "doctor", "--json"], capture_output=True, text=True,
                            env={**environment, "LD_PRELOAD": preloaded})
    if result.returncode != 0:
        return f"doctor failed: {result.stderr.strip()}"
    report = json.loads(result.stdout)
    if report["libtorch"]["folder"] != str(lib):
        return f"libtorch was loaded from {report['libtorch']['folder']}"
    return report["cuda"]["compiler_problem"]
