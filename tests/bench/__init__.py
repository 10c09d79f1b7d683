"""The speed of the three methods against what the machine can do: `make bench`, or `python -m tests.bench`."""
