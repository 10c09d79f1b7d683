"""`python -m ebspub` is `ebspub`."""

from ebspub.cli.main import main

main()
