"""``python -m cfalign``."""

from cfalign._cli import main

main()
