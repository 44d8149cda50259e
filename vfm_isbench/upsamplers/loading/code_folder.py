"""``code:FOLDER:MODULE:ATTRIBUTE[?key=value]``: upsamplers from a folder of code that has no ``hubconf.py``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from vfm_isbench.errors import UnknownNameError
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.storage.hashing import code_sha256
from vfm_isbench.upsamplers.known import require_packages
from vfm_isbench.upsamplers.loaded import LoadedUpsampler
from vfm_isbench.upsamplers.loading.entry_parameters import refuse_unknown_keywords
from vfm_isbench.upsamplers.loading.foreign_code import (
    RepositoryModules,
    in_place,
    load_weights,
    pick,
    require_consent,
    running,
    with_source,
)
from vfm_isbench.upsamplers.loading.resolve import make
from vfm_isbench.upsamplers.loading.settings import read_settings
from vfm_isbench.upsamplers.loading.specs import LOADERS, LoadOptions, split_query

WEIGHTS_KEY = "weights_key"
"""Key by which a setting names the part of the weights file to read."""


def load_from_code(text: str, options: LoadOptions) -> LoadedUpsampler:
    """Load an upsampler from a folder with somebody's code.

    Args:
        text: ``path/to/folder:package.module:Attribute?key=value``. The attribute (dotted) is a class or function,
            called with the keywords, or a ready upsampler. ``style``, ``attribute``, ``call.key`` and ``then`` are as
            in :func:`vfm_isbench.upsamplers.loading.hub.load_from_hub`; ``weights_key=jafar`` reads the weights from
            that part of the file.
        options: Consent is needed to run the code. ``weights`` is a state dict loaded into the upsampler, exactly.

    Returns:
        The upsampler as ``(features, image)``, with a ``source`` as of an upsampler from torch.hub.

    Raises:
        ContractError: without consent, if a package is missing, or if the code fails.
        UnknownNameError: if there is no such folder, module, attribute, keyword or style.
        WeightsError: if ``options.weights`` cannot be read, or does not fit.
    """
    spec = f"code:{text}"
    name, values = split_query(text)
    query = text[len(name) :]
    place, _, attribute = name.rpartition(":")
    place, _, module = place.rpartition(":")
    if not (place and module and attribute):
        raise UnknownNameError(
            f"upsampler {spec!r}: expected code:path/to/folder:package.module:Class, as in code:JAFAR:src.upsampler:Up"
        )
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise UnknownNameError(f"upsampler {spec!r}: there is no folder {place} (seen from {Path.cwd()})")
    key = values.pop(WEIGHTS_KEY, None)
    if key is not None and options.weights is None:
        raise UnknownNameError(f"upsampler {spec!r}: {WEIGHTS_KEY} names a part of a file: give --upsampler-weights")
    settings = read_settings(spec, values)
    require_consent(spec, f"{attribute} of {module} in {folder}", options)
    # Its name alone: results travel, and say nothing of the machine's folders.
    repository = folder.resolve().name
    require_packages(spec, repository, folder)
    file = f"{module.replace('.', '/')}.py"
    if not (folder / file).is_file():
        file = f"{module.replace('.', '/')}/__init__.py"
    if not all(part.isidentifier() for part in module.split(".")) or not (folder / file).is_file():
        raise UnknownNameError(
            f"upsampler {spec!r}: there is no module {module!r} in {folder}; expected the path of a file in it with "
            "dots for slashes and without .py, as in src.upsampler.jafar"
        )
    refuse_unknown_keywords(spec, folder, file, attribute, settings.arguments)
    source: dict[str, Any] = {"kind": "code", "repository": repository, "commit": None}
    source |= {"entry": f"{module}:{attribute}", "code_sha256": code_sha256(folder)}
    modules = RepositoryModules(folder)
    with running(f"loading upsampler {spec!r}") as warned, in_place(modules):
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            if not hasattr(found, part):
                public = [known for known in vars(found) if not known.startswith("_")]
                raise unknown_name(f"attribute of {module} in upsampler {spec!r}:", part, public or ["none"])
            found = getattr(found, part)
        made = make(spec, found, settings)
    source["warnings"] = warned
    with in_place(modules):
        found = pick(spec, made, settings.attribute)
        if options.weights is not None:
            source["weights_sha256"] = load_weights(spec, found, options.weights, key)
    with in_place(modules):  # for the method that the settings name
        return with_source(found, f"code:{repository}:{module}:{attribute}{query}", settings, source, modules)


LOADERS.add("code", load_from_code)
