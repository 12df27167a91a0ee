"""Takes libtorch out of PyPI's wheels of torch and of NVIDIA's libraries.

wheel.py requirements cpu|cuda TORCH_WHEEL     prints the other packages that it needs, one per line, for pip
wheel.py unpack cpu|cuda FOLDER WHEEL...       writes FOLDER/{include,lib,build-version}
"""

import pathlib
import re
import shutil
import sys
import zipfile

# The libraries of torch that are useful only with Python, or only with CUDA.
FOR_PYTHON = re.compile(r"lib(torch_python|shm|torch_global_deps)\b")
FOR_CUDA = re.compile(r"lib(torch_cuda|c10_cuda|caffe2_nvrtc|torch_nvshmem)")
# The only NVIDIA libraries that the CPU part of a libtorch with CUDA links to.
LINKED_BY_CPU_PART = re.compile(r"lib(cudart|cupti)\.so")


def requirements(kind, wheel):
    """Prints NVIDIA's packages that the wheel names in its metadata, with their exact versions."""
    if not sys.platform.startswith("linux"):
        return
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    for line in metadata.splitlines():
        match = re.match(r"Requires-Dist: ((cuda-toolkit|nvidia-)[^;]*)", line)
        if not match:
            continue
        requirement = match[1].replace(" ", "")
        if kind == "cuda":
            print(requirement)
        elif requirement.startswith("cuda-toolkit"):
            print(re.sub(r"\[.*\]", "[cudart,cupti]", requirement))


def place(kind, member):
    """The path of a wheel's file in the libtorch folder. None if the file is not needed."""
    path = pathlib.PurePosixPath(member)
    if member.startswith("torch/include/"):
        return path.relative_to("torch")
    if not re.search(r"\.(so|dylib)\b", path.name):
        return None
    if member.startswith(("torch/lib/", "torch.libs/")):
        wanted = not FOR_PYTHON.match(path.name)
        wanted = wanted and (kind == "cuda" or not FOR_CUDA.match(path.name))
    else:
        wanted = member.startswith("nvidia/") and path.parent.name == "lib"
        wanted = wanted and (kind == "cuda" or LINKED_BY_CPU_PART.match(path.name))
    # All in one folder, which is the first where a library looks for the libraries that it links to.
    return pathlib.PurePosixPath("lib", path.name) if wanted else None


def unpack(kind, folder, wheels):
    """Copies the needed files out of the wheels, and checks the archives' checksums."""
    folder = pathlib.Path(folder)
    version = None
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if member == "torch/version.py":
                    source = archive.read(member).decode()
                    version = re.search(r"^__version__ = ['\"](.*)['\"]", source, re.M)[1]
                destination = place(kind, member)
                if destination is None or member.endswith("/"):
                    continue
                target = folder / destination
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(target, "wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
    (folder / "build-version").write_text(f"{version}\n")


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "requirements":
        requirements(*arguments)
    else:
        unpack(arguments[0], arguments[1], arguments[2:])
