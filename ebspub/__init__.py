"""Publish Linux images as EBS-root AMIs: every region and arch a persisted, resumable state machine."""

__version__ = "0.1.0"
