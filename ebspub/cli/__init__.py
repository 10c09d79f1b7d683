"""The command line: one file per command, no logic. What a command does lives in :mod:`ebspub.app`.

Modules here import only typer and the standard library when they are loaded; everything else is imported inside the
commands, so that ``--help`` and shell completion answer at once.
"""
