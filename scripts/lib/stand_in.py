"""The stand-in for CUDA (scripts/cuda-stand-in): fetches what it needs, builds it, and runs programs on it."""

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "scripts/cuda-stand-in"
# The headers of the CUDA version that libtorch 2.11.0 is built for. The second package has headers that the
# first one includes.
HEADERS = ["nvidia-cuda-runtime==13.0.*", "nvidia-cuda-crt==13.0.*"]


def fetch_libtorch(folder: Path) -> Path:
    """libtorch with CUDA in `folder`, downloaded unless it is there. Returns its folder of libraries."""
    script = f"""
        set -Eeuo pipefail
        unset LIBTORCH
        root=$1 libtorch_folder=$2
        source "$root/scripts/lib/common.sh"
        source "$root/scripts/lib/libtorch.sh"
        libtorch_step cuda
    """
    subprocess.run(["bash", "-c", script, "-", str(ROOT), str(folder / "libtorch")], check=True)
    return folder / "libtorch/lib"


def fetch_headers(folder: Path) -> Path:
    """CUDA's headers in `folder`, downloaded unless they are there."""
    include = folder / "nvidia/cu13/include"
    if not (include / "crt/host_config.h").exists():
        wheels = folder / "wheels"
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
                    "--no-deps", "--only-binary=:all:", "--dest", str(wheels), *HEADERS]
        subprocess.run(download, check=True)
        for wheel in wheels.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                members = [name for name in archive.namelist() if "/include/" in name]
                archive.extractall(folder, members)
    return include


def build(folder: Path, include: Path) -> Path:
    """Compiles the stand-in. Its name is the driver's, so a program that asks for the driver gets it too."""
    library = folder / "libcuda.so.1"
    sources = sorted(SOURCES.glob("*.cpp"))
    newest = max(file.stat().st_mtime for file in SOURCES.iterdir())
    if not library.exists() or library.stat().st_mtime < newest:
        compiler = [os.environ.get("CXX", "c++"), "-std=c++20", "-O1", "-g", "-Wall", "-Wextra",
                    "-fPIC", "-shared", f"-isystem{include}"]
        subprocess.run([*compiler, *map(str, sources), "-o", str(library), "-ldl"], check=True)
    return library


@dataclass
class Seen:
    """What a run did."""

    status: int
    stdout: str
    stderr: str
    log: list[dict] = field(default_factory=list)

    def of(self, event: str) -> list[dict]:
        return [line for line in self.log if line["event"] == event]

    @property
    def memory(self) -> list[int]:
        """Bytes that each device still holds at the end."""
        return self.of("exit")[-1]["memory"]


@dataclass
class StandIn:
    """Runs a program on the stand-in."""

    library: Path
    libtorch: Path
    scratch: Path

    def run(self, command: list[str], environment: dict[str, str], timeout: float = 300) -> Seen:
        log = self.scratch / "log.jsonl"
        log.unlink(missing_ok=True)
        settings = {
            # The program's run path leads to the libtorch that it was built with; this one comes first.
            "LD_LIBRARY_PATH": f"{self.library.parent}:{self.libtorch}",
            "LD_PRELOAD": str(self.library),
            "CUDA_STAND_IN_LOG": str(log),
        }
        result = subprocess.run(command, capture_output=True, text=True, timeout=timeout,
                                env={**os.environ, **settings, **environment})
        lines = log.read_text().splitlines() if log.exists() else []
        return Seen(result.returncode, result.stdout, result.stderr, [json.loads(line) for line in lines])
