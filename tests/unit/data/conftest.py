from pathlib import Path

import pytest

from mmrun.data.processor import MultimodalProcessor, build_processor
from tests.unit.data.project import MODEL, PIPELINE, Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="session")
def processor() -> MultimodalProcessor:
    texts = ["four two seven", "two four", "__en__ read", "read this"] * 3
    return build_processor(PIPELINE, model=MODEL, texts=texts)
