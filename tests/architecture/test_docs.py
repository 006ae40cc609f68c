"""What is said about mmrun must be so: links, versions, commands, options, keys, exit codes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML

import mmrun
from mmrun import errors
from mmrun.cli.app import app
from mmrun.cli.command_line import read_command_line
from mmrun.cli.options import plain_name
from mmrun.cli.settings import settings_of
from mmrun.config.loading import load_experiment
from mmrun.config.schema import Section
from mmrun.config.sections import SECTIONS, known_names
from mmrun.modalities.features import FeaturesSettings
from mmrun.modalities.image import ImageSettings
from mmrun.training.schedule_options import OPTIONS
from mmrun.training.schedules import LOOKING_BACK

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ONE_SCREEN = 60
LINK = re.compile(r"\[[^\]]*\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
KEY = re.compile(rf"\b({'|'.join(SECTIONS)})\.([a-z]\w+)")
OF_OTHERS = frozenset(
    {
        "--env-manager",
        "--run-id",
        "--backend-store-uri",
        "--x",
        "--format",
        "--max-restarts",
        "--shutdown-timeout",
        "--signals-to-handle",
        "--signal",
        "--open-mode",
        "--allowed-hosts",
        "--artifact-location",
        "--default-artifact-root",
        "--no-serve-artifacts",
    }
)


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _anchors(page: Path) -> set[str]:
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in HEADING.findall(_text(page))
    }


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


# Pages


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(_text(page)):
        found = page.parent / target if target else page

        assert found.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in _anchors(found), f"{page.name} links to {target}#{anchor}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop().resolve()
        if page in reached or page.suffix != ".md" or not page.is_file():
            continue
        reached.add(page)
        todo += [page.parent / target for target, _ in LINK.findall(_text(page)) if target]

    assert {page.resolve() for page in PAGES} <= reached


def test_the_newest_version_in_the_changelog_is_the_package_s() -> None:
    versions = re.findall(r"^## \[?(\d[^\s\]]*)", _text(ROOT / "CHANGELOG.md"), re.MULTILINE)

    assert versions[0] == mmrun.__version__


def test_the_citation_names_the_package_s_version() -> None:
    citation = YAML(typ="safe").load(_text(ROOT / "CITATION.cff"))

    assert citation["version"] == mmrun.__version__


def test_the_readme_fits_on_one_screen() -> None:
    assert len(_text(ROOT / "README.md").splitlines()) <= ONE_SCREEN


# Commands


def _commands() -> Iterator[str]:
    """Yield every command of mmrun in a block of shell code, and those of MLproject and DVC."""
    for page in PAGES:
        for _, code in BLOCK.findall(_text(page)):
            for line in code.replace("\\\n", " ").splitlines():
                found = re.search(r"(?:^|\bsrun |--no-python )mmrun (.*)", line)
                if found:
                    yield found[1]
    stages = YAML(typ="safe").load(_text(ROOT / "dvc.yaml"))["stages"].values()
    yield from (stage["cmd"].removeprefix("mmrun ") for stage in stages)
    points = YAML(typ="safe").load(_text(ROOT / "MLproject"))["entry_points"].values()
    for point in points:
        for command in point["command"].removeprefix("run() (").removesuffix("); run").split("&&"):
            plain = re.sub(r"\{\w+\}", "''", command).replace('"$@"', "").strip()
            yield plain.removeprefix("mmrun ")


@pytest.mark.parametrize("command", sorted(set(_commands())))
def test_every_command_that_is_shown_can_be_given(command: str) -> None:
    argv = shlex.split(command, comments=True)

    line = read_command_line(typer.main.get_command(app), argv, settings_of=settings_of)

    assert line.argv


def _options() -> frozenset[str]:
    root = typer.main.get_command(app)
    own = {"--help"}
    commands = [root, *root.commands.values()]  # type: ignore[attr-defined]
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        own |= {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
    return frozenset(own)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_option_that_is_named_exists(page: Path) -> None:
    settings = settings_of("mmrun train")
    assert settings is not None
    code = " ".join(CODE.findall(BLOCK.sub("", _text(page))))

    named = set(OPTION.findall(code)) - _options() - OF_OTHERS

    assert [option for option in named if settings.find(plain_name(option)) is None] == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_key_that_is_named_exists(page: Path) -> None:
    for section, key in KEY.findall(" ".join(CODE.findall(_text(page)))):
        if key in {"lerning_rate", "safetensors"}:  # the example of a mistake, and a file
            continue
        assert key in known_names(section), f"{page.name} names {section}.{key}"


def test_exit_codes_are_those_of_the_errors() -> None:
    rows = re.findall(r"^\| (\d+) \|", _text(ROOT / "docs/errors.md"), re.MULTILINE)

    families = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.exit_code for kind in families if issubclass(kind, errors.MmrunError)}
    assert set(map(int, rows)) == codes | {0, 130}


# The experiment file and the modalities


def test_the_experiment_file_at_the_root_is_one() -> None:
    assert load_experiment(ROOT / "params.yaml").training.output_dir is not None


@pytest.mark.parametrize(
    "section", [name for name in SECTIONS if name not in {"training", "generation"}]
)
def test_every_key_of_a_section_is_described(section: str) -> None:
    described = _described(_part(ROOT / "docs/experiment-file.md", section))

    missing = [
        name
        for name in SECTIONS[section].model_fields
        if name not in described and not any(name.endswith(end) for end in _endings(described))
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("heading", "settings"),
    [("features2text", FeaturesSettings), ("image2text", ImageSettings)],
)
def test_the_settings_of_a_modality_are_described(heading: str, settings: type[Section]) -> None:
    rows = _part(ROOT / "docs/modalities.md", heading).splitlines()
    described = {
        name for row in rows if row.startswith("| `") for name in _described(row.split("|")[1])
    }

    assert described == set(settings.model_fields)


def test_the_example_of_a_modality_is_the_package_that_is_tested() -> None:
    blocks = dict(BLOCK.findall(_part(ROOT / "docs/modalities.md", "One of your own")))
    package = ROOT / "tests/packages/sound"

    assert blocks["python"] == _text(package / "src/sound/modality.py")
    assert blocks["toml"].removeprefix("# pyproject.toml\n") in _text(package / "pyproject.toml")


def _part(page: Path, heading: str) -> str:
    """Return what stands below a heading."""
    text = _text(page)
    start = text.index(f"## {heading}\n")
    end = text.find("\n## ", start)
    return text[start : end if end > 0 else None]


def _described(text: str) -> set[str]:
    return set(CODE.findall(text))


def _endings(described: set[str]) -> list[str]:
    """Return what stands for names with the same beginning, as `…_layer_norm`."""
    return [name.removeprefix("…") for name in described if name.startswith("…")]


@pytest.mark.parametrize("kind", OPTIONS)
def test_the_page_has_a_formula_for_every_schedule_and_names_its_options(kind: str) -> None:
    section = _part(ROOT / "docs/resume.md", "Learning rate")
    table = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")]

    (formula,) = [cells[1] for cells in table if kind in _described(cells[0])]

    assert ("no formula" in formula) is (kind in LOOKING_BACK)
    if kind not in LOOKING_BACK:
        assert OPTIONS[kind] <= _described(section)
