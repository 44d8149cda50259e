"""The errors this library raises on purpose; ``except VfmIsbenchError`` catches all of them."""

from __future__ import annotations

import signal


class VfmIsbenchError(Exception):
    """Base of every error caused by the user's input or files.

    Its message says what was found, what was expected and what to do. The command line prints only the message and
    exits with code 2.
    """


class ProtocolError(VfmIsbenchError):
    """A protocol field has a value outside its range, or two fields contradict each other."""


class UnknownNameError(VfmIsbenchError):
    """The name of a backbone, upsampler, data set or preset is not registered."""


class DataError(VfmIsbenchError):
    """A file of a data set is missing, broken or does not fit its partner; the message names the file."""


class ContractError(VfmIsbenchError):
    """An upsampler breaks the contract ``(features, image) -> features``; the message says where."""


class ChannelsError(ContractError):
    """An upsampler works, but not with as many feature channels as the backbone has.

    Args:
        what: What happened, and what to do.
        works_with: Numbers of channels with which it was found to work.
    """

    def __init__(self, what: str, works_with: tuple[int, ...]) -> None:
        super().__init__(what)
        self.works_with = works_with


class WeightsError(VfmIsbenchError):
    """Weights could not be found, downloaded or loaded into their module."""


class MissingError(DataError, WeightsError):
    """Several things that a run needs are missing or cannot be used; the message lists all of them.

    If it is a single one, its own error is raised instead.
    """


class ResultError(VfmIsbenchError):
    """A result file is broken, has another schema, or contradicts itself."""


class ComparisonError(VfmIsbenchError):
    """Results cannot be compared as requested, for example because they lack a score."""


class IncomparableError(ComparisonError):
    """Results were measured under different protocols, with different backbone weights or on different data.

    The message gives every reason. The command line exits with code 3.
    """


class LeaderboardError(VfmIsbenchError):
    """A leaderboard entry, or a file in its folder, cannot be used; the message names it."""


class RunError(VfmIsbenchError):
    """A run cannot start or continue, for example because its output folder belongs to another run."""


class StoppedError(VfmIsbenchError):
    """Training or evaluation stopped half-way because of something that no check before it could show.

    Args:
        what: What happened, and what to do.

    Attributes:
        places: Where it happened, from the outermost (such as the test set) to the innermost (such as the click).
        kept: What is left of the work so far, and how to continue.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.places: tuple[str, ...] = ()
        self.kept = ""

    def __str__(self) -> str:
        what = super().__str__()
        where = f"{', '.join(self.places)}: " if self.places else ""
        return f"{where}{what}\n{self.kept}" if self.kept else f"{where}{what}"


class UpsamplerError(StoppedError):
    """An upsampler that passed the contract check failed, ended the program or broke its contract later."""


class NonFiniteError(StoppedError):
    """A loss, a prediction or trained weights became NaN or infinite."""


class WriteError(StoppedError):
    """A file of the run could not be written half-way, for example because the disk is full."""


class OutOfMemoryError(StoppedError):
    """Memory ran out; the message says with what the run fits, if with anything."""


class SpeedError(VfmIsbenchError):
    """A speed setting has a value outside its range, or does not suit the run."""


class PluginError(VfmIsbenchError):
    """A plugin from another package is broken or refused; the message names the package and the entry point."""


class PictureError(VfmIsbenchError):
    """A picture cannot be drawn from the given data, or cannot be written to the given path."""


class MissingPackageError(VfmIsbenchError, ImportError):
    """An optional package is not installed; the message says which extra of this library installs it."""


class VfmIsbenchWarning(UserWarning):
    """Something that is allowed, but that readers of the numbers should know."""


class Terminated(SystemExit):
    """The run was asked to end by SIGTERM or SIGHUP, and has kept its work; this is not an error.

    If nothing catches it, the program ends with exit code 128 + number, as shells report a signal.

    Args:
        number: Number of the signal.

    Attributes:
        signal_name: Such as "SIGTERM".
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal_name = signal.Signals(number).name
