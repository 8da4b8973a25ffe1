"""Build backend (PEP 517): the package is pure Python, so a wheel is its files and three more."""

import base64
import hashlib
import pathlib
import re
import tarfile
import zipfile

ROOT = pathlib.Path(__file__).parent
PACKAGE = ROOT / "src" / "anthill"
VERSION = re.search(r'__version__ = "(.+)"', (PACKAGE / "__init__.py").read_text()).group(1)
NAME = f"anthill-{VERSION}"

METADATA = f"""\
Metadata-Version: 2.1
Name: anthill
Version: {VERSION}
Summary: Client of an Anthill server: hosts, tasks, results and events
License: MIT OR Apache-2.0
Requires-Python: >=3.9
Classifier: Typing :: Typed
Description-Content-Type: text/markdown

{(ROOT / "README.md").read_text()}"""

WHEEL = """\
Wheel-Version: 1.0
Generator: anthill
Root-Is-Purelib: true
Tag: py3-none-any
"""


def files():
    """Files of the package, by their path in the wheel."""
    found = [path for path in sorted(PACKAGE.iterdir()) if path.suffix in (".py", ".typed")]
    return {f"anthill/{path.name}": path.read_bytes() for path in found}


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    info = f"{NAME}.dist-info"
    contents = files()
    contents[f"{info}/METADATA"] = METADATA.encode()
    contents[f"{info}/WHEEL"] = WHEEL.encode()
    record = "".join(record_line(name, content) for name, content in contents.items())
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = f"{NAME}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / wheel, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in contents.items():
            # A fixed time makes equal sources equal wheels.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            file.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return wheel


def record_line(name, content):
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"


def build_sdist(sdist_directory, config_settings=None):
    sdist = f"{NAME}.tar.gz"
    with tarfile.open(pathlib.Path(sdist_directory) / sdist, "w:gz") as archive:
        for name in ("pyproject.toml", "backend.py", "README.md"):
            archive.add(ROOT / name, f"{NAME}/{name}")
        for name in files():
            archive.add(ROOT / "src" / name, f"{NAME}/src/{name}")
    return sdist
