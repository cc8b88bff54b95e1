"""`python -m frugalseg`, e.g. under torchrun."""

from frugalseg.cli import main

if __name__ == "__main__":
    main()
