"""The errors this library raises on purpose: one tree, so that ``except VfmIsbenchError`` catches all of them."""

from __future__ import annotations


class VfmIsbenchError(Exception):
    """Base of every error raised because of what the user gave or has on disk.

    Its message says what was got, what was expected and what to do. The command line prints the message alone and
    exits with code 2.
    """


class ProtocolError(VfmIsbenchError):
    """A protocol field has a value outside its range, or two fields contradict each other."""


class UnknownNameError(VfmIsbenchError):
    """A backbone, upsampler, data set or preset name that is not registered."""


class DataError(VfmIsbenchError):
    """A file of a data set is missing, broken or does not fit its partner; the message names the file."""


class ContractError(VfmIsbenchError):
    """An upsampler does not keep the contract ``(features, image) -> features``; the message says where."""


class WeightsError(VfmIsbenchError):
    """Weights could not be found, fetched or loaded into the module they were meant for."""


class ResultError(VfmIsbenchError):
    """A result file is broken, of another schema, or contradicts itself."""


class ComparisonError(VfmIsbenchError):
    """Results cannot be compared as was asked, for example by a score they lack."""


class IncomparableError(ComparisonError):
    """Results were measured under other protocols, with other weights of the backbone or on other data.

    The message gives every reason. The command line exits with code 3.
    """


class LeaderboardError(VfmIsbenchError):
    """An entry of the leaderboard, or a file of its folder, cannot be used; the message names it."""


class RunError(VfmIsbenchError):
    """A run cannot start or go on, for example because its output folder belongs to another run."""


class SpeedError(VfmIsbenchError):
    """A speed setting has a value outside its range, or cannot be used with what is to be run."""


class PluginError(VfmIsbenchError):
    """What another package adds by an entry point is broken or refused; the message names package and entry point."""


class PictureError(VfmIsbenchError):
    """A picture cannot be drawn of what was given, or cannot be written where it was asked for."""


class MissingPackageError(VfmIsbenchError, ImportError):
    """An optional package is not installed; the message says which extra of this library brings it."""


class VfmIsbenchWarning(UserWarning):
    """Something that is allowed, but that a reader of the numbers should know."""
