"""``python -m cfalign.cli``."""

from cfalign.cli import main

main()
