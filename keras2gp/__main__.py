"""`python -m keras2gp` is the command `keras2gp`."""

import sys

from keras2gp.cli.main import main

sys.exit(main())
