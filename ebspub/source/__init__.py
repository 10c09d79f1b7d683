"""Source artefacts and their proof: the SHA-256 that a build must have before anything is launched for it."""

from ebspub.source.fetch import fetch
from ebspub.source.resolve import Fetch, resolve
from ebspub.source.sums import artefact_name, parse_sums

__all__ = ["Fetch", "artefact_name", "fetch", "parse_sums", "resolve"]
