"""Write the variance components of leaderboard entries, which ``vfm-isbench power --protocol NAME`` uses.

    python benchmarks/recipes/components.py

Components are differences of all pairs of ranked entries of a protocol, as in ``vfm-isbench power RESULT…``. Run it
again after entries have changed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import vfm_isbench
from vfm_isbench.leaderboard import load_board
from vfm_isbench.leaderboard.board import ENTRIES
from vfm_isbench.storage.atomic import write_text

FILE = Path(vfm_isbench.__file__).parent / "results" / "components.json"


def main() -> None:
    """Read the entries, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=Path, default=ENTRIES)
    parser.add_argument("--output", type=Path, default=FILE)
    arguments = parser.parse_args()
    runs: dict[str, list[vfm_isbench.Result]] = {}
    for entry in load_board(arguments.entries).entries:
        runs.setdefault(entry.fingerprint, []).extend(entry.runs)
    content = {
        fingerprint: {
            "protocol": results[0].protocol.label,
            "measured": [found.to_dict() for found in vfm_isbench.resolution(*results).measured],
        }
        for fingerprint, results in sorted(runs.items())
    }
    write_text(arguments.output, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
