"""The command line: one module per subcommand, with the same names as in Python."""

from vfm_isbench.cli.main import build_parser, main
from vfm_isbench.cli.options import protocol_from

__all__ = ["build_parser", "main", "protocol_from"]
