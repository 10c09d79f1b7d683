"""Source artefacts and their proof: what a build must have before anything is launched for it.

========= ===============================================================
web       which URLs are taken, which proxy is used
fetch     small documents, bounded in size and time
look      a run's view of the places of publication: each document once
signature OpenPGP signatures, judged by gpgv
sums      SHA256SUMS
streams   simplestreams indexes of downloads
current   which serial is the newest
resolve   from a source to its checksum and what proves it
download  large files, resumable
========= ===============================================================
"""

from ebspub.source.fetch import fetch
from ebspub.source.look import Look, is_local, path_of
from ebspub.source.resolve import Fetch, resolve
from ebspub.source.sums import artefact_name, parse_sums

__all__ = ["Fetch", "Look", "artefact_name", "fetch", "is_local", "parse_sums", "path_of", "resolve"]
