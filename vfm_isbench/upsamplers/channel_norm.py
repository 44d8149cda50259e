"""The protocol's word on the normalisation in front of FeatUp's JBU."""

from __future__ import annotations

import copy

from vfm_isbench.upsamplers.base import Upsampler
from vfm_isbench.upsamplers.featup import FeatUpJBU


def follow_channel_norm(upsampler: Upsampler, wanted: bool) -> tuple[Upsampler, tuple[str, ...]]:
    """Use FeatUp's JBU with or without its channel norm, as the protocol field ``featup_channel_norm`` says.

    Args:
        upsampler: Any upsampler; all but :class:`FeatUpJBU` are returned as they are.
        wanted: Whether the protocol asks for the norm.

    Returns:
        The upsampler, a copy where something had to change, and remarks for the result: a file without the norm is used
        without it.
    """
    if not isinstance(upsampler, FeatUpJBU) or upsampler.channel_norm is wanted:
        return upsampler, ()
    if wanted:
        return upsampler, (
            "FeatUp's JBU was used without the channel norm, which its weights do not hold or were told off",
        )
    return copy.deepcopy(upsampler).without_channel_norm(), ()
