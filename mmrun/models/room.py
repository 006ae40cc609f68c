"""How long a row may be: backbones such as BART have a table of positions, which has an end."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import nn

from mmrun.errors import ConfigError, DataError
from mmrun.models.extractor import FeatureExtractor
from mmrun.models.mapper import Mapper

_SHORTER = (
    "leave long rows out with data.max_frames, shorten them (skip_frames_stride, or a mapper of "
    "the type cnn_adapter), or take a backbone that reads more (backbone_config."
    "max_position_embeddings of a new one; m2m_100 and t5 have no end)"
)
_LESS_TEXT = "leave long texts out with data.max_length, or take a backbone that reads more"


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many positions a backbone has; None where there is no end."""

    encoder: int | None
    decoder: int | None
    shortened: Callable[[int], int] | None = None
    """From the length of a row to the positions that it takes; None where that is not known."""

    @classmethod
    def of(
        cls,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        streams: Sequence[tuple[FeatureExtractor | None, Mapper]],
        inputs: int,
    ) -> Self:
        """Return the room of a model with so many ``inputs``, of which ``streams`` have frames."""
        alone = inputs == len(streams) == 1
        # What several inputs are shortened to cannot be told by their lengths together.
        keep = not any(mapper.shortens for _, mapper in streams)
        hear = any(extractor is not None and extractor.hears for extractor, _ in streams)
        shortened = streams[0][1].shortened if alone else int
        return cls(
            encoder=_positions(encoder),
            decoder=_positions(decoder),
            shortened=shortened if (alone or keep) and not hear else None,
        )

    @property
    def endless(self) -> bool:
        """Whether no row can be too long."""
        return self.encoder is None and self.decoder is None


def require_positions(wanted: int, *, encoder: nn.Module) -> None:
    """Refuse a batch that is longer than the ``encoder`` can read, which a table cannot say."""
    room = _positions(encoder)
    if room is not None and wanted > room:
        raise DataError(
            f"a row takes {wanted} positions, the encoder of the backbone has {room}",
            hint=_SHORTER,
        )


def require_tokens(wanted: int, *, decoder: nn.Module) -> None:
    """Refuse a target that is longer than the ``decoder`` can write."""
    room = _positions(decoder)
    if room is not None and wanted > room:
        raise DataError(
            f"a target has {wanted} tokens, the decoder of the backbone has {room} positions",
            hint=_LESS_TEXT,
        )


def require_length(wanted: int | None, *, decoder: nn.Module) -> None:
    """Refuse to write texts of up to ``wanted`` tokens; the last of them is never read."""
    room = _positions(decoder)
    if room is not None and wanted is not None and wanted > room + 1:
        raise ConfigError(
            f"generation: allows {wanted} tokens, the decoder of the backbone has {room} positions",
            hint=f"set generation.max_length to {room} at most (max_new_tokens counts no prompt)",
        )


def rows_without_room(
    rows: Sequence[Mapping[str, Any]], *, room: Room, tokens: Callable[[str], int], manifest: Path
) -> list[DataError]:
    """Return an error for each row that is longer than the backbone can read or write.

    Args:
        rows: As ``measured_rows`` returned them.
        room: What the model has.
        tokens: How many tokens a text has, without special ones.
        manifest: Where the rows are from.
    """
    if room.endless:
        return []
    return [error for row in rows for error in _problems(row, room, tokens, manifest)]


def _problems(
    row: Mapping[str, Any], room: Room, tokens: Callable[[str], int], manifest: Path
) -> Iterator[DataError]:
    place = f"{manifest}:{row['line']}"

    def count(*names: str) -> int:
        """Return how many tokens there are, an end included."""
        return 1 + sum(tokens(row[name]) for name in names if row[name])

    if room.encoder is not None and room.shortened is not None:
        wanted = room.shortened(row["length"]) + count("encoder_prompt")
        if wanted > room.encoder:
            yield DataError(
                f"{place}: takes {wanted} positions with prompt and end, the encoder of the "
                f"backbone has {room.encoder}",
                hint=_SHORTER,
            )
    if room.decoder is not None and (wanted := count("decoder_prompt", "output")) > room.decoder:
        yield DataError(
            f"{place}: the target has {wanted} tokens with prompt and end, the decoder of the "
            f"backbone has {room.decoder} positions",
            hint=_LESS_TEXT,
        )


def _positions(part: nn.Module) -> int | None:
    """Return how many positions an encoder or a decoder can tell apart; None if any number."""
    table = getattr(part, "embed_positions", None)
    grows = hasattr(table, "make_weight") or hasattr(table, "make_weights")
    if not isinstance(table, nn.Embedding) or grows:
        return None
    return table.num_embeddings - int(getattr(table, "offset", 0))
