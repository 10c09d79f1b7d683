"""The part of the disk method that runs on the builder, by the Python that is there (3.8 and later, no other package).

========= ==============================================================
artefact  the artefact's bytes: downloaded, resumed, hashed
streams   decompressed, taken out of a tar
volume    blocks with data written to a volume, read back, zeros restored
qemu      qcow2, VMDK and VHD by qemu-img
program   the commands that `disk.sh` calls
========= ==============================================================
"""
