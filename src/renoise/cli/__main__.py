"""Entry point of `python -m renoise.cli`, the same as `renoise`."""

import sys

from renoise.cli import main

sys.exit(main())
