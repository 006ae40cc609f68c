"""Generating with prompts of the decoder, which may differ in length."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils.generic import ModelOutput

from mmrun.models.left_padding import (
    Rules,
    moved_back,
    needs_one_length,
    own_options,
    padded_left,
    place_of_positions,
    positions_from,
    rules_of,
)
from mmrun.models.room import require_length
from mmrun.models.scores import joined, mean_scores


# transformers looks for the words GenerationMixin in the name of a base.
class PromptedGenerationMixin(GenerationMixin):
    """Encodes first, and then lets transformers write all texts of a batch in one call."""

    config: Any
    generation_config: Any
    main_input_name: Any
    encode: Callable[..., Any]
    get_decoder: Callable[..., Any]

    @property
    def _pad(self) -> int:
        return int(self.config.pad_token_id or 0)

    @property
    def _start(self) -> int:
        return int(self.config.decoder_start_token_id or 0)

    def _one_eos(self) -> int:
        eos = self.config.eos_token_id
        return int(eos[0] if isinstance(eos, list) else eos or 0)

    @torch.no_grad()
    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Write text; prompts of the decoder may differ in length, and come back with the text.

        Sequences begin with the start token and the prompt, and are filled up on the right. With
        ``return_dict_in_generate`` and ``output_scores`` the result has ``sequences_scores`` also
        where no beams are searched: the mean log-probability of the tokens that were written.
        """
        kwargs.pop("labels", None)
        kwargs |= dict(zip(("inputs", "generation_config"), args, strict=False))
        if (inputs := kwargs.pop("inputs", None)) is not None:
            kwargs[self.main_input_name] = inputs
        if kwargs.get("encoder_outputs") is None:
            kwargs |= self._encoded(kwargs)
        prompts = kwargs.pop("decoder_input_ids", None)
        mask = kwargs.pop("decoder_attention_mask", None)
        option = self._option(kwargs)
        more, begun = option("max_new_tokens"), 1 if prompts is None else 1 + prompts.shape[1]
        limit = option("max_length") if more is None else begun + more
        require_length(limit, decoder=self.get_decoder())
        if prompts is None:
            return self._generate(kwargs)
        lengths = (torch.ones_like(prompts) if mask is None else mask).sum(dim=1)
        if len(lengths.unique()) == 1:
            return self._generate(kwargs, decoder_input_ids=self._started(prompts, lengths))
        if place_of_positions(self.get_decoder()) is None or needs_one_length(option, kwargs):
            return self._length_by_length(prompts, lengths, kwargs)
        return self._left_padded(prompts, lengths, kwargs, rules=rules_of(option))

    def _option(self, given: Mapping[str, Any]) -> Callable[[str], Any]:
        """Return what tells the value of an option, given here or the model's."""
        places = [given.get("generation_config"), self.generation_config]

        def option(name: str) -> Any:
            if name in given:
                return given[name]
            values = (getattr(place, name, None) for place in places)
            return next((value for value in values if value is not None), None)

        return option

    def _left_padded(
        self, prompts: Tensor, lengths: Tensor, options: dict[str, Any], *, rules: Rules
    ) -> Any:
        """Write all texts in one call, each with the tokens that it would have alone."""
        # The filler is another token than the start, for rules that look for what was there before.
        filler = self._pad if self._pad != self._start else self._one_eos()
        moved, mask = padded_left(self._started(prompts, lengths), lengths + 1, filler=filler)
        shifts = lengths.max() - lengths
        written = self._generate(
            {**options, **own_options(rules, shifts)},
            shifts=shifts,
            rules=rules,
            decoder_input_ids=moved,
            decoder_attention_mask=mask,
        )
        if isinstance(written, Tensor):
            return moved_back(written, shifts, pad=self._pad, limit=rules.limit)
        written.sequences = moved_back(written.sequences, shifts, pad=self._pad, limit=rules.limit)
        return written

    def _length_by_length(self, prompts: Tensor, lengths: Tensor, options: dict[str, Any]) -> Any:
        """Write the texts in one call for each length of a prompt."""
        groups = [(lengths == length).nonzero().flatten() for length in lengths.unique()]
        written = [
            self._generate(
                {key: _rows(value, rows, total=len(prompts)) for key, value in options.items()},
                decoder_input_ids=self._started(prompts[rows], lengths[rows]),
            )
            for rows in groups
        ]
        return joined(written, groups, pad=self._pad)

    def _encoded(self, given: dict[str, Any]) -> dict[str, Any]:
        """Take the inputs out of ``given``; return what the decoder reads instead of them."""
        names = {name for spec in self.config.inputs for name in (spec.name, spec.mask)}
        prompts = ("encoder_prompt", "encoder_prompt_length_padding_mask")
        outputs, mask = self.encode(
            {name: given.pop(name, None) for name in names},
            **{name: given.pop(name, None) for name in prompts},
        )
        return {"encoder_outputs": outputs, "attention_mask": mask}

    def _generate(
        self,
        options: dict[str, Any],
        *,
        shifts: Tensor | None = None,
        rules: Rules | None = None,
        **prompts: Tensor,
    ) -> Any:
        """Let transformers write; with ``shifts``, each row begins that many columns later."""
        whole: Any = super()
        limit = rules.limit if rules else None
        if shifts is None:
            written = whole.generate(**options, **prompts)
        else:
            with positions_from(self.get_decoder(), shifts, limit=limit):
                written = whole.generate(**options, **prompts)
        if not isinstance(written, Tensor) and getattr(written, "sequences_scores", None) is None:
            width = prompts["decoder_input_ids"].shape[1] if prompts else 1
            room = None if shifts is None or limit is None else limit + shifts - width
            ends = rules_of(self._option(options)).ends
            written.sequences_scores = mean_scores(written, ends=ends, room=room)
        return written

    def _started(self, prompts: Tensor, lengths: Tensor) -> Tensor:
        """Put the token before ``prompts`` that the decoder always starts with."""
        start = prompts.new_full((len(prompts), 1), self._start)
        return torch.cat([start, prompts[:, : int(lengths.max())]], dim=1)


def _rows(value: Any, rows: Tensor, *, total: int) -> Any:
    """Return the chosen rows of what has one a sample, and anything else as it is."""
    if isinstance(value, ModelOutput):  # each kind of encoder has a class of its own
        return BaseModelOutput(last_hidden_state=value["last_hidden_state"][rows])
    return value[rows] if isinstance(value, Tensor) and value.shape[:1] == (total,) else value
