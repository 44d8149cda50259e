"""The protocol's word on the normalisation in front of FeatUp's JBU."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

from vfm_isbench.upsamplers.base import Upsampler
from vfm_isbench.upsamplers.published.featup import FeatUpJBU

_LACKING = "FeatUp's JBU was used without the channel norm, which its weights do not hold or were told off"
_OVERRULED = (
    "FeatUp's JBU was used without the channel norm that norm=true asked for, as the protocol leaves it out: "
    "featup_channel_norm is False"
)


def follow_channel_norm(upsampler: Upsampler, wanted: bool) -> tuple[Upsampler, tuple[str, ...]]:
    """Use FeatUp's JBU with or without its channel norm, as the protocol field ``featup_channel_norm`` says.

    Args:
        upsampler: Any upsampler; all but :class:`FeatUpJBU` are returned as they are.
        wanted: Whether the protocol asks for the norm.

    Returns:
        The upsampler, a copy where something had to change, and remarks for the result: a file without the norm is used
        without it, and a norm that was asked for (``norm_asked`` in ``upsampler_source``) is left out all the same. The
        ``channel_norm`` in a copy's ``upsampler_source`` is what is in force.
    """
    if not isinstance(upsampler, FeatUpJBU):
        return upsampler, ()
    declared: Any = getattr(upsampler, "upsampler_source", None)
    source: Mapping[str, Any] = declared if isinstance(declared, Mapping) else {}
    in_force = wanted and upsampler.channel_norm
    remarks = []
    if wanted and not in_force:
        remarks.append(_LACKING)
    if not wanted and upsampler.channel_norm and source.get("norm_asked"):
        remarks.append(_OVERRULED)
    followed = upsampler
    if upsampler.channel_norm is not in_force or source.get("channel_norm", in_force) is not in_force:
        followed = copy.deepcopy(upsampler)
        if not in_force:
            followed.without_channel_norm()
        if source:
            cast(Any, followed).upsampler_source = {**source, "channel_norm": in_force}
    return followed, tuple(remarks)
