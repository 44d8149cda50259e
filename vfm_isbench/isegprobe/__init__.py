"""Read checkpoints of iSegProbe, the reference implementation, build probes from them, and write them."""

from vfm_isbench.isegprobe.assemble import assemble_reference
from vfm_isbench.isegprobe.checkpoint import ReferenceCheckpoint, is_reference, protocol_of, read_reference
from vfm_isbench.isegprobe.config import ReferenceModel
from vfm_isbench.isegprobe.export import export_reference

__all__ = [
    "ReferenceCheckpoint",
    "ReferenceModel",
    "assemble_reference",
    "export_reference",
    "is_reference",
    "protocol_of",
    "read_reference",
]
