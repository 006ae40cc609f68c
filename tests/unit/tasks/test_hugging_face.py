from pathlib import Path
from typing import Any

from transformers import AutoModelForSeq2SeqLM, AutoProcessor

from mmrun.config.schema import ModelSection
from mmrun.data.pipeline import InputSlot, Pipeline
from mmrun.data.processor import MultimodalProcessor, build_processor
from mmrun.models.build import build_model
from mmrun.models.embedder import MultimodalEmbedderModel
from mmrun.tasks.hugging_face import register
from tests.unit.models.tiny import M2M


def test_a_checkpoint_can_be_read_with_the_auto_classes(tmp_path: Path) -> None:
    section = ModelSection(feat_dim=2, backbone_config=M2M)
    pipeline = Pipeline(inputs=(InputSlot(modality="features", settings={}),))
    processor = build_processor(pipeline, model=section, texts=["four two"] * 3)
    processor.save_pretrained(tmp_path)
    build_model(section, tokenizer=processor.tokenizer, seed=1).save_pretrained(tmp_path)

    register()
    register()

    auto: Any = AutoProcessor
    found = auto.from_pretrained(str(tmp_path))
    assert isinstance(found, MultimodalProcessor)
    assert found.inputs == processor.inputs
    model = AutoModelForSeq2SeqLM.from_pretrained(str(tmp_path))
    assert isinstance(model, MultimodalEmbedderModel)
