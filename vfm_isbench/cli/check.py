"""``vfm-isbench check``: check an upsampler as ``run`` would, without training."""

from __future__ import annotations

import argparse

from vfm_isbench.backbones import Backbone, StandIn, load_backbone, load_what_is_here
from vfm_isbench.backbones.clip import CLIP
from vfm_isbench.cli.options import (
    UPSAMPLER_HELP,
    Subparsers,
    add_backbone_weights_option,
    add_data_root_option,
    add_device_option,
    add_loading_options,
    add_protocol_options,
    add_random_weights_option,
    load_options,
    protocol_from,
)
from vfm_isbench.cli.terminal import complain, say
from vfm_isbench.click_encoders import check_click_encoder
from vfm_isbench.probe import build_probe, check_combination
from vfm_isbench.probe.preparation import check_and_identify, choose_device, follow_protocol, require_fit
from vfm_isbench.probe.torch_state import benchmark_settings, current_device, settings_restored
from vfm_isbench.protocol import Protocol
from vfm_isbench.runs import check_random
from vfm_isbench.runs.needs import Search, find_data
from vfm_isbench.upsamplers import LoadedUpsampler, call_style, load_upsampler


def add_check(commands: Subparsers) -> None:
    """Add the subcommand."""
    check = commands.add_parser(
        "check",
        help="check an upsampler against its contract, as run would before training",
        description="Check an upsampler as vfm-isbench run would with the same options, and train nothing. Weights of "
        "the backbone are used if they are here, and are not downloaded.",
    )
    check.set_defaults(function=check_command, datasets=None)
    check.add_argument("upsampler", metavar="UPSAMPLER", help=UPSAMPLER_HELP)
    check.add_argument(
        "--identity", metavar="TEXT", help="which upsampler it is, if its code or weights cannot be hashed"
    )
    add_protocol_options(check)
    check.add_argument("--image-size", type=int, metavar="S", help="image size in pixels (default: the protocol's)")
    sizes = check.add_argument_group(
        "sizes", "for a backbone that is not installed here: each replaces what the backbone of the protocol has"
    )
    sizes.add_argument("--channels", type=int, metavar="C", help="feature channels (default: the backbone's)")
    sizes.add_argument("--patch-size", type=int, metavar="P", help="patch size in pixels (default: the backbone's)")
    add_data_root_option(check)
    add_backbone_weights_option(check)
    add_random_weights_option(check)
    add_loading_options(check)
    add_device_option(check)


def check_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench check``."""
    chosen = protocol_from(arguments)
    protocol = chosen if arguments.image_size is None else chosen.replace(image_size=arguments.image_size)
    device = choose_device(arguments.device)

    def load() -> LoadedUpsampler:
        with settings_restored():
            return load_upsampler(arguments.upsampler, load_options(arguments))

    if arguments.channels is None:
        require_fit(arguments.upsampler, protocol.backbone)
    search = Search()
    with benchmark_settings(), current_device(device):
        search.look(lambda: check_click_encoder(protocol.click_encoder))
        found = search.look(lambda: _backbone(arguments, protocol, chosen.image_size))
        if found is not None:
            search.look(lambda: check_combination(protocol, found[0]))
        loaded = search.look(load)
        search.finish()
        assert found is not None and loaded is not None
        backbone, notes = found[0].to(device), found[1]
        if isinstance(backbone, StandIn):  # nothing in it can be trained
            protocol = protocol.replace(train_backbone=False)
        loaded, protocol, _ = follow_protocol(loaded, protocol)
        checked = check_and_identify(loaded, protocol, backbone, device, arguments.identity)
        build_probe(protocol, backbone, checked.upsampler).to(device)
    side = protocol.image_size
    say(
        f"{arguments.upsampler} keeps the contract",
        f"checked with:      {protocol.label} protocol, features of {backbone.name} ({backbone.channels} channels, "
        f"patch {backbone.patch_size}), images of {side}×{side}",
        f"called as:         {call_style(loaded)}",
        *([f"trained:           {', '.join(chosen.trained_parts)}, with the probe"] if chosen.trained_parts else []),
        "image:             RGB, normalised with the mean and standard deviation of ImageNet",
        str(checked.contract),
    )
    data = Search()
    find_data(data, protocol, arguments.data_root, evaluates=True)
    for note in (*notes, *(f"a run would stop: {failure}" for failure in data.failures)):
        complain(f"note: {note}")


def _backbone(arguments: argparse.Namespace, protocol: Protocol, usual_size: int) -> tuple[Backbone, tuple[str, ...]]:
    """The backbone to check with, and notes on what a run would need for it."""
    check_random(arguments.random_weights, arguments.backbone_weights)
    channels, patch_size = arguments.channels, arguments.patch_size
    if channels is None and patch_size is None:
        return _protocols_backbone(protocol, arguments)
    if channels is None or patch_size is None:
        usual, _ = _protocols_backbone(protocol.replace(image_size=usual_size), arguments)
        channels, patch_size = channels or usual.channels, patch_size or usual.patch_size
    return StandIn(channels, patch_size), ()


def _protocols_backbone(protocol: Protocol, arguments: argparse.Namespace) -> tuple[Backbone, tuple[str, ...]]:
    """The protocol's backbone, with random weights and a note if its own are not here or not wanted."""
    if arguments.random_weights:
        how = protocol.position_embedding
        wanted = load_backbone(protocol.backbone, protocol.image_size, position_embedding=how, pretrained=False)
        return wanted, ("the check used random weights for the backbone, as asked for with --random-weights",)
    backbone, error = load_what_is_here(protocol, arguments.backbone_weights)
    if error is None:
        return backbone, ()
    note = f"the check used random weights for the backbone: {error}"
    if protocol.backbone.startswith(("dinov2_", "timm:", "hf-hub:", *CLIP)):
        note = (
            f"the check used random weights, because those of {protocol.backbone} are not here: a run fetches them "
            "from the Hugging Face hub, or takes a file or folder as --backbone-weights PATH"
        )
    return backbone, (note,)
