"""The part of the methods that runs on the builder, by the Python that is there (3.8 and later, no other package).

========= ==============================================================
artefact  the artefact's bytes: downloaded, resumed, hashed
streams   decompressed, taken out of a tar
libraries decoders in this process
container qcow2, VMDK and VHD through qemu-nbd
nbd       what an NBD server exports
volume    blocks with data written to a volume, read back, zeros restored
pour      all of it: the artefact's disk onto the volume
table     the GPT moved, what can grow
prove     what is on the volume against what came in
unpack    the image in an artefact as a sparse file, for the filesystem method
sift      unpacked without its zeros, for the publisher
notes     what is left in the task's folder
program   the commands that `disk.sh` and `extract.sh` call
========= ==============================================================
"""
