"""The command line: the same words as in Python, a module for each subcommand."""

from vfm_isbench.cli.main import build_parser, main
from vfm_isbench.cli.options import protocol_from

__all__ = ["build_parser", "main", "protocol_from"]
