"""`python -m training.classifier` trains it."""

from . import main

main()
