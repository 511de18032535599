"""Lets ``python -m roofline_fast`` stand for the ``roofline-fast`` command."""

from roofline_fast.cli import main

if __name__ == "__main__":
    main()
