"""The commands of the program that works on builders, in the task's folder; `disk.sh` and `extract.sh` call it.

    pour DEVICE VIRTUALIZATION SHA256 TRIES PAUSE SECONDS <URL    the artefact's disk onto the volume
    prove DEVICE        what is on the volume against what came in; the GPT's backup to the volume's end
    unpack MOST         for the filesystem method: the artefact's image as a sparse file; exit status 5: in doubt
    sift COMPRESSION    for the direct method, on the publisher: stdin unpacked without its zeros

What it leaves in the folder: see :mod:`ebspub.populate.imaging.notes`.
"""

from __future__ import annotations

import sys

from ebspub.populate.imaging.notes import save
from ebspub.populate.imaging.refusal import Refusal


def main() -> None:
    """Do what the arguments say. Exit status 3: refused, and ``refused`` says why."""
    # The thread that reads takes the interpreter's lock back after every read: it would wait 5 ms for one that hashes.
    sys.setswitchinterval(0.0002)
    try:
        _run(*sys.argv[1:])
    except Refusal as error:
        save("refused", f"{error.code} {error.message}\n")
        sys.exit(3)
    except OSError as error:
        save("refused", f"io {error.strerror or type(error).__name__}\n")
        sys.exit(3)


def _run(command: str, *words: str) -> None:
    # Each is imported when it is called: what only the other one needs would take longer to load than its work.
    if command == "pour":
        from ebspub.populate.imaging.pour import pour

        pour(*words)
    elif command == "sift":
        from ebspub.populate.imaging.sift import sift

        sift(*words)
    elif command == "unpack":
        from ebspub.populate.imaging.unpack import DoubtError, unpack

        try:
            unpack(*words)
        except DoubtError as error:
            print(f"unpack: {error.__cause__}", file=sys.stderr)  # noqa: T201 - the task's log
            sys.exit(5)
    else:
        from ebspub.populate.imaging.prove import prove

        prove(*words)
