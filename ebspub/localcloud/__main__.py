"""Run the embedded cloud in the foreground: python -m ebspub.localcloud --folder DIR."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from ebspub.errors import EbspubError
from ebspub.localcloud.server import serve
from ebspub.localcloud.settings import Settings


def main() -> int:
    """Parse the command line and serve until a signal; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ebspub.localcloud", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where disks, builders and the cloud's key lie")
    parser.add_argument("--settings", type=Settings.model_validate_json, default=Settings(), help="settings as JSON")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        serve(arguments.folder, arguments.settings)
    except EbspubError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
