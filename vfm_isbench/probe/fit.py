"""Whether a published upsampler was made for a backbone, by the tables of known ones."""

from __future__ import annotations

from vfm_isbench.backbones.table import TABLE
from vfm_isbench.errors import ChannelsError
from vfm_isbench.protocol import Protocol
from vfm_isbench.upsamplers import LoadedUpsampler, fitting_backbones


def require_fit(upsampler: object, backbone: str) -> None:
    """Refuse a published upsampler on a backbone that, by the tables, has another number of channels.

    It takes nothing but the names, so that nothing is downloaded in vain.

    Args:
        upsampler: What the user gave: only names say anything here.
        backbone: Name of the protocol's backbone.

    Raises:
        ChannelsError: naming the backbones that fit.
    """
    fits = fitting_backbones(upsampler) if isinstance(upsampler, str) else ()
    channels = next((row.channels for row in TABLE if row.name == backbone), None)
    works_with = tuple(sorted({number for _, number in fits}))
    if not works_with or channels is None or channels in works_with:
        return
    fitting = " or ".join(f"{name} ({number} channels)" for name, number in fits)
    raise ChannelsError(
        f"{upsampler} was trained on the features of {fitting}, but {backbone} has {channels} channels; choose its "
        f"backbone: --backbone {fits[0][0]}",
        works_with,
    )


def notes_on_fit(upsampler: LoadedUpsampler, protocol: Protocol) -> tuple[str, ...]:
    """What readers should know of a published upsampler on another backbone that happens to have as many channels."""
    fitting = [backbone for backbone, _ in fitting_backbones(upsampler.name)]
    if not fitting or protocol.backbone in fitting:
        return ()
    return (f"{upsampler.name} was trained on the features of {' or '.join(fitting)}, not of {protocol.backbone}",)
