import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.normalizers import NFC, Lowercase
from transformers import PreTrainedTokenizerFast

from mmrun.data.collator import IGNORED, Collator
from mmrun.data.dataset import Sample
from mmrun.data.processor import MultimodalProcessor
from mmrun.errors import DataError
from mmrun.models.build import build_model
from mmrun.models.configuration import FRAMES
from tests.unit.models.tiny import section

CONVOLUTION = {"adapter_ksize": (3,), "adapter_stride": (2,)}


def sample(output: str, *, frames: int = 1, encoder: str = "", decoder: str = "") -> Sample:
    return Sample(
        signals=(np.ones((frames, 2), dtype=np.float32),),
        encoder_prompt=encoder,
        decoder_prompt=decoder,
        output=output,
    )


def ids(processor: MultimodalProcessor, text: str) -> list[int]:
    found: list[int] = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


def test_signals_are_filled_up_and_the_mask_says_where(processor: MultimodalProcessor) -> None:
    batch = Collator(processor)([sample("four", frames=3), sample("two", frames=1)])

    assert batch["input_frames"].shape == (2, 3, 2)
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["input_frames"][1, 1:].abs().sum() == 0


def test_labels_are_prompt_text_and_end(processor: MultimodalProcessor) -> None:
    batch = Collator(processor)([sample("four two", decoder="read"), sample("two")])

    end = processor.tokenizer.eos_token_id
    long = [*ids(processor, "read"), *ids(processor, "four two"), end]
    short = [*ids(processor, "two"), end]
    assert batch["labels"].tolist() == [long, short + [IGNORED] * (len(long) - len(short))]


class TwoSided(PreTrainedTokenizerFast):
    """Writes in lower case, whatever it reads: as Marian's, it splits the two by other rules."""

    spm_target = "there"

    def _switch_to_target_mode(self) -> None:
        self.backend_tokenizer.normalizer = Lowercase()

    def _switch_to_input_mode(self) -> None:
        self.backend_tokenizer.normalizer = NFC()


def test_what_is_written_is_split_as_a_target_where_the_tokenizer_has_two_sides(
    processor: MultimodalProcessor,
) -> None:
    both = copy.copy(processor)
    of: Any = TwoSided
    both.tokenizer = of(
        tokenizer_object=Tokenizer.from_str(processor.tokenizer.backend_tokenizer.to_str()),
        eos_token="</s>",
        pad_token="<pad>",
    )

    batch = Collator(both)([sample("TWO", encoder="TWO", decoder="READ")])

    written = [*ids(processor, "read"), *ids(processor, "two"), processor.tokenizer.eos_token_id]
    assert batch["labels"].tolist() == [written]
    assert batch["encoder_prompt"].tolist() == [ids(processor, "TWO")]


def test_prompts_are_there_only_when_a_sample_has_one(processor: MultimodalProcessor) -> None:
    batch = Collator(processor)([sample("four"), sample("two")])

    assert batch.keys() == {"input_frames", "attention_mask", "labels"}


def test_an_empty_prompt_beside_others_is_all_padding(processor: MultimodalProcessor) -> None:
    batch = Collator(processor)([sample("four", encoder="read this"), sample("two")])

    assert batch["encoder_prompt_length_padding_mask"].tolist()[1] == [0, 0]
    assert batch["encoder_prompt"][0].tolist() == ids(processor, "read this")


def test_images_of_different_sizes_are_refused_with_what_to_set(
    processor: MultimodalProcessor,
) -> None:
    images: list[Any] = [np.zeros((1, 3, 4, size), dtype=np.float32) for size in (4, 5)]
    samples = [
        Sample(signals=(i,), encoder_prompt="", decoder_prompt="", output="a") for i in images
    ]

    with pytest.raises(DataError, match="3x4x4, 3x4x5") as caught:
        Collator(processor)(samples)

    assert "width and height" in caught.value.hint


def test_a_collator_can_be_sent_to_another_process(processor: MultimodalProcessor) -> None:
    sent = pickle.loads(pickle.dumps(Collator(processor)))

    assert sent([sample("four")])["labels"].tolist() == [
        [*ids(processor, "four"), processor.tokenizer.eos_token_id]
    ]


def test_a_broken_sample_keeps_its_place_and_does_not_count(processor: MultimodalProcessor) -> None:
    nothing = (np.zeros((0, 2), dtype=np.float32),)
    broken = Sample(
        signals=nothing, encoder_prompt="", decoder_prompt="read", output="two", broken=True
    )

    batch = Collator(processor)([sample("four", frames=2), broken])
    alone = Collator(processor)([broken])

    assert batch["attention_mask"].tolist() == [[1, 1], [0, 0]]
    assert (batch["labels"][1] == IGNORED).all()
    assert alone["labels"].shape[1] > alone["decoder_input_ids"].shape[1]
    assert alone["input_frames"].shape == (1, 1, 2)
    assert alone["attention_mask"].tolist() == [[0]]


def test_each_stream_has_its_tensor_and_its_mask(processor: MultimodalProcessor) -> None:
    two = MultimodalProcessor(
        processor.tokenizer,
        streams=[
            *processor.streams,
            {**processor.streams[0], "name": "said", "mask": "said_mask"},
        ],
    )
    frames = np.ones((2, 2), dtype=np.float32)
    tokens = [np.array(ids(processor, text), dtype=np.int64) for text in ("four two", "two")]

    batch = Collator(two)(
        [
            Sample(signals=(frames, said), encoder_prompt="", decoder_prompt="", output="a")
            for said in tokens
        ]
    )

    pad = processor.tokenizer.pad_token_id
    short = [*tokens[1].tolist(), *[pad] * (len(tokens[0]) - len(tokens[1]))]
    assert batch["said"].tolist() == [tokens[0].tolist(), short]
    assert batch["said_mask"].sum(dim=1).tolist() == [len(said) for said in tokens]
    assert batch["input_frames"].shape == (2, 2, 2)


def test_a_decoder_that_is_not_prompted_learns_to_write_its_prompt(
    processor: MultimodalProcessor,
) -> None:
    own = MultimodalProcessor(processor.tokenizer, streams=processor.streams, prompted=False)

    batch = Collator(own)([sample("four", decoder="read")])

    end = processor.tokenizer.eos_token_id
    assert "decoder_input_ids" not in batch
    assert batch["labels"].tolist() == [[*ids(processor, "read"), *ids(processor, "four"), end]]


def test_lengths_are_filled_up_to_a_multiple(processor: MultimodalProcessor) -> None:
    samples = [sample("four two", frames=5, encoder="read", decoder="this"), sample("two")]
    plain = Collator(processor)(samples)

    batch = Collator(processor, multiple=4)(samples)

    assert batch["input_frames"].shape == (2, 8, 2)
    assert batch["attention_mask"].tolist() == [[1] * 5 + [0] * 3, [1] + [0] * 7]
    assert batch["labels"].shape[1] % 4 == 0
    added = batch["labels"].shape[1] - plain["labels"].shape[1]
    assert batch["labels"].tolist() == [row + [IGNORED] * added for row in plain["labels"].tolist()]
    for name in ("encoder_prompt", "decoder_input_ids"):
        assert batch[name].equal(plain[name])


@pytest.mark.parametrize(
    "mapper",
    [
        pytest.param({}, id="linear"),
        pytest.param(
            {
                "multimodal_mapper_type": "cnn_adapter",
                "adapter_ksize": (3,),
                "adapter_stride": (2,),
            },
            id="cnn_adapter",
        ),
    ],
)
def test_filling_up_to_a_multiple_leaves_the_loss_as_it_is(
    processor: MultimodalProcessor, mapper: dict[str, Any]
) -> None:
    wanted = section(feat_dim=2, multimodal_mapper_factor=1, **mapper)
    model = build_model(wanted, tokenizer=processor.tokenizer, seed=1, inputs=(FRAMES,))
    model.train(mode=False)
    samples = [sample("four two", frames=5, encoder="read this"), sample("two", frames=2)]

    losses = [
        model(**Collator(processor, multiple=multiple)(samples)).loss for multiple in (None, 16)
    ]

    torch.testing.assert_close(*losses, rtol=1e-6, atol=0)


def test_more_texts_than_are_remembered_are_all_read(
    processor: MultimodalProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmrun.data.collator._REMEMBERED", 3)
    collator = Collator(processor)
    end = processor.tokenizer.eos_token_id

    for texts in (("four", "two"), ("two", "seven", "read"), ("four", "this"), ("two", "two")):
        labels = collator([sample(text) for text in texts])["labels"].tolist()

        assert [[one for one in row if one != IGNORED] for row in labels] == [
            [*ids(processor, text), end] for text in texts
        ]
