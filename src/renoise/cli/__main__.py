"""`python -m renoise.cli` is `renoise`."""

import sys

from renoise.cli import main

sys.exit(main())
