"""``${section.key}`` and ``${oc.env:NAME}`` in an experiment, resolved by OmegaConf."""

from typing import Any

from mmrun.config.document import Document, Key
from mmrun.config.report import Report


def interpolate(document: Document, *, report: Report) -> None:
    """Replace every text that refers to another value; the stored form refers to none."""
    wanted = [
        (key, text)
        for key, text in document.texts()
        if "${" in text and document.place(key) != document.whole
    ]
    if not wanted:
        return
    from omegaconf import OmegaConf  # an expensive import that most files do not need
    from omegaconf.errors import OmegaConfBaseException

    tree = OmegaConf.create(document.values)
    for key, text in wanted:
        try:
            value = _resolved(tree, key)
        except OmegaConfBaseException as error:
            reason = next(iter(str(error).splitlines()), "cannot be resolved")
            report.problem(key, f"cannot resolve {text!r}: {reason}", place=document.place(key))
        else:
            document.put(key, value, place=document.place(key))


def _resolved(tree: Any, key: Key) -> Any:
    from omegaconf import OmegaConf

    for name in key:
        tree = tree[name]
    return OmegaConf.to_container(tree, resolve=True) if OmegaConf.is_config(tree) else tree
