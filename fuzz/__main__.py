"""`python -m fuzz` (make fuzz)."""

import sys

from fuzz.run import main

sys.exit(main())
