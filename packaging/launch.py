"""The frozen agent's first statements; everything else is fieldwatch_agent/__main__.py."""

import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before anything can import onnxruntime

from fieldwatch_agent.__main__ import main

sys.exit(main())
