"""The demo: a small real image, a server for it, and the proof that what was published equals it."""
