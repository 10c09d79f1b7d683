"""What is published for others to read: one catalogue of AMIs, and renderers that turn it into files.

A renderer is a pure function ``render(catalog, ...) -> {path: bytes}``: it opens nothing, asks nothing and knows no
time but those of the catalogue, so that an unchanged catalogue gives identical bytes. :mod:`ebspub.feeds.every` calls
them all, :mod:`ebspub.feeds.files` writes what they give.
"""

from ebspub.feeds.catalog import Catalog, Download, Image

__all__ = ["Catalog", "Download", "Image"]
