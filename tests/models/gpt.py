"""The GPT of `examples/gpt.py` at toy size."""

from pathlib import Path
from typing import Any

import superscaler as ss

EXAMPLE = Path(__file__).parents[2] / "examples/gpt.py:workload"
TOY = {"layers": 4, "hidden": 32, "heads": 4, "seq": 16, "batch": 8}


def gpt(**settings: Any) -> ss.Workload:
    return ss.load_workload(str(EXAMPLE), TOY | settings)
