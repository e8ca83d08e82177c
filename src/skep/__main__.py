"""`python -m skep`."""

from skep.interfaces.cli.main import main

if __name__ == "__main__":
    main()
