"""``python -m vfm_isbench``."""

import sys

from vfm_isbench.cli import main

sys.exit(main())
