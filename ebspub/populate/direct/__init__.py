"""The direct method: the publisher itself puts the image's blocks into a snapshot. No builder, no volume.

``Uploader`` is what a process has one of. An upload streams: download, decompress, cut into blocks, put. Nothing of it
is kept on disk but for formats that need random access (qcow2, VMDK, VHD), and only blocks with data are put, many at a
time. What was put is on record (``engine.ledger``); after a kill the source is streamed again from its beginning, which
costs no more than the download, and blocks on record are not put again.

It runs in threads of this process, not in a process of its own: credentials are then asked for once (a profile with
MFA asks the user), and a region's clients, proxies and connections are shared. What takes time is done without the
interpreter's lock all the same: decompression (ISA-L, or a process of its own), SHA-256 and TLS in C. Memory is bounded
over all uploads by a fixed number of block buffers.

Partitions and file systems are not grown here: that takes a kernel, or the tools of every file system. With ``grow``
the GPT is made that of the whole volume (:mod:`ebspub.populate.gpt`); the root partition and its file system
grow in the instance at its first boot (cloud-init's growpart, or systemd-repart).
"""

from ebspub.populate.direct.uploader import Uploader

__all__ = ["Uploader"]
