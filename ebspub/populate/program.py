"""The Python program that is sent along to builders (:mod:`ebspub.populate.imaging`): for Pythons of 3.8 and later."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from importlib import resources
from typing import Final

#: What the program is made of. Packages are empty on the builder: nothing of ours is imported by the way.
_MODULES: Final = (
    "ebspub/errors.py",
    "ebspub/source/formats.py",
    "ebspub/populate/gpt.py",
    *(
        f"ebspub/populate/imaging/{name}.py"
        for name in (
            *("artefact", "container", "libraries", "nbd", "notes", "pour", "program", "prove", "refusal", "sift"),
            *("streams", "table", "unpack", "volume"),
        )
    ),
)
_PACKAGES: Final = ("ebspub", "ebspub/source", "ebspub/populate", "ebspub/populate/imaging")
#: What any Python of the last twenty years understands, up to where it knows that it is too old.
_MAIN: Final = """import sys
if sys.version_info < (3, 8):
    sys.exit(4)
from ebspub.populate.imaging.program import main
main()
"""


@cache
def program() -> bytes:
    """Return the builder's program: a zip file that Python runs. The same bytes for the same version."""
    root = resources.files("ebspub")
    files = {f"{package}/__init__.py": "" for package in _PACKAGES}
    files |= {name: root.joinpath(name.removeprefix("ebspub/")).read_text(encoding="utf-8") for name in _MODULES}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in sorted({**files, "__main__.py": _MAIN}.items()):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
    return packed.getvalue()
