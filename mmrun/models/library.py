"""What transformers is asked for, with its refusals told as mistakes in a key of the file."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from mmrun.errors import ConfigError
from mmrun.hub import pretrained

_REFUSED = (OSError, ValueError, TypeError, KeyError, ImportError, StrictDataclassError)


@contextmanager
def refusing(
    key: str, hint: str = "correct the model section of the experiment file"
) -> Iterator[None]:
    """Tell what a library does not accept as a mistake in ``key``."""
    try:
        yield
    except _REFUSED as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        raise ConfigError(f"{key}: {reason.strip()}", hint=hint) from error


def check_keys(given: Mapping[str, Any], *, known: PreTrainedConfig, key: str) -> None:
    """Refuse what transformers would keep without using it."""
    names = {*known.to_dict(), *known.attribute_map}
    for name in given:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            raise ConfigError(
                f"{key}.{name}: {known.model_type} has no such key"
                + (f"; did you mean {near[0]!r}?" if near else ""),
                hint=f"the keys are those of transformers' {type(known).__name__}",
            )


def read_pretrained(kind: Any, name: str, *, key: str, **changed: Any) -> Any:
    """Read what ``kind``, an Auto class of transformers, finds under ``name``."""
    found = pretrained(name, key=key)
    try:
        return kind.from_pretrained(
            found.source, local_files_only=found.local_files_only, **changed
        )
    except _REFUSED as error:
        raise ConfigError(
            f"{key}: {name}: {found.why_not}", hint="name a folder with a model of this kind"
        ) from error
