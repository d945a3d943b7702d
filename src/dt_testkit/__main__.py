"""``python -m dt_testkit``: the same as ``dt-testkit``."""

from dt_testkit.cli import main

if __name__ == "__main__":
    main()
