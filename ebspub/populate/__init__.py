"""Ways to fill a volume. A new one is a file here and a line in :data:`METHODS`.

A method is a script that runs detached on the builder (`ebspub.remote.detached`), and a check of what it reports.
"""

from typing import Final

from ebspub.populate.device import DeviceError, find_device
from ebspub.populate.disk import DiskMethod
from ebspub.populate.filesystem import FilesystemMethod
from ebspub.populate.method import FATAL_CODES, Method, PopulateFacts

#: By the word in a job's ``method``.
METHODS: Final[dict[str, Method]] = {
    "filesystem": FilesystemMethod(),
    "disk": DiskMethod(),
}

__all__ = ["FATAL_CODES", "METHODS", "DeviceError", "Method", "PopulateFacts", "find_device"]
