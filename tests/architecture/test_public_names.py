"""The names that others may rely on."""

import importlib.metadata
import subprocess
import sys

import mmrun


def test_the_package_exports_what_it_says() -> None:
    assert mmrun.__all__ == ["__version__"]
    assert all(hasattr(mmrun, name) for name in mmrun.__all__)


def test_the_package_itself_is_light() -> None:
    code = "import sys; import mmrun; print(len([m for m in sys.modules if '.' not in m]))"
    bare = "import sys; print(len([m for m in sys.modules if '.' not in m]))"

    count, without = (
        int(subprocess.run([sys.executable, "-c", c], capture_output=True, check=True).stdout)
        for c in (code, bare)
    )

    assert count == without + 1


def test_the_console_script_is_the_command_line() -> None:
    scripts = importlib.metadata.entry_points(group="console_scripts", name="mmrun")

    assert {script.value for script in scripts} == {"mmrun.cli.main:main"}
