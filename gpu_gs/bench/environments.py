"""Environments of their own for contestants that need packages which gpu_gs does not.

An environment is a virtual environment over ours: its own packages come first, then gpu_gs and all that is installed
beside it, torch and Ax among them. So it is small, its own versions win, and ours stay as they are. It lies in the
user's cache, or in the folder that ``GPU_GS_ENVIRONMENTS`` names.

A job of a contestant runs with ``python_of(name) or sys.executable`` and ``-m gpu_gs.bench.worker``; ``python_of`` is in
``gpu_gs.bench.contestants``.
"""

import json
import os
import platform
import site
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gpu_gs
from gpu_gs.errors import GpuGsError

VARIABLE = "GPU_GS_ENVIRONMENTS"
"""Names the folder of all environments, in place of the user's cache."""

MARKER = "gpu_gs.json"
"""Written last: what an environment was set up from, and the versions in it."""

LAYER = "gpu_gs.pth"
SHARED = ("torch",)
"""Packages of ours that an environment may not have in another version: torch alone is larger than all else."""

SHOWN_LINES = 8
"""Of what pip says, in an error."""


class EnvironmentSetupError(GpuGsError, RuntimeError):
    """An environment could not be set up; the message says of each which step failed and how."""


def environments_dir() -> Path:
    """The folder with an environment in each folder in it."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    from platformdirs import user_cache_path

    return user_cache_path("gpu_gs", appauthor=False) / "environments"


@dataclass(frozen=True)
class Environment:
    """What some contestants need; installed beside gpu_gs, or into an environment of its own.

    Attributes:
        name: Of its folder.
        module: What the contestants import.
        requirements: What pip installs.
    """

    name: str
    module: str
    requirements: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return environments_dir() / self.name

    @property
    def python(self) -> Path:
        """Its interpreter, whether it is there or not."""
        return self.folder / "bin" / "python"

    def lacks_here(self) -> str | None:
        """Why our own environment will not do; None if it will."""
        from packaging.requirements import Requirement

        if find_spec(self.module) is None:
            return f"{self.module} is not installed"
        for requirement in map(Requirement, self.requirements):
            try:
                found = version(requirement.name)
            except PackageNotFoundError:
                return f"{requirement.name} is not installed"
            if not requirement.specifier.contains(found, prereleases=True):
                return f"{requirement.name} {found} is installed, {requirement} is needed"
        return None

    def is_current(self) -> bool:
        """Whether it is set up, from these requirements and over this gpu_gs and its Python."""
        marker = self._marker()
        return self.python.exists() and all(marker.get(key) == value for key, value in self._origin().items())

    def versions(self) -> dict[str, str]:
        """The packages that it has of its own, with their versions; empty if it is not set up."""
        return dict(self._marker().get("versions", {}))

    def set_up(self, say: Callable[[str], None]) -> None:
        """Creates or updates it; one that is current is left alone.

        Args:
            say: Gets a line for each step.

        Raises:
            EnvironmentSetupError: A step failed.
        """
        if self.is_current():
            say(f"{self.name}: ready in {self.folder}")
            return
        if not self.python.exists() or self._marker().get("python") != _python():
            say(f"{self.name}: a new environment in {self.folder}")
            self._create()
        (self.folder / MARKER).unlink(missing_ok=True)
        self._put_over_ours()
        say(f"{self.name}: pip install {' '.join(self.requirements)}")
        self._install()
        versions = self._try_out()
        (self.folder / MARKER).write_text(json.dumps({**self._origin(), "versions": versions}, indent=2) + "\n")
        say(f"{self.name}: ready with {self._found(versions)}")

    def _origin(self) -> dict[str, Any]:
        return {"requirements": list(self.requirements), "python": _python(), "over": _ours()}

    def _marker(self) -> dict[str, Any]:
        try:
            found = json.loads((self.folder / MARKER).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            return {}
        return found if isinstance(found, dict) else {}

    def _create(self) -> None:
        if self.folder.exists() and any(self.folder.iterdir()) and not (self.folder / "pyvenv.cfg").exists():
            raise EnvironmentSetupError(f"{self.name}: {self.folder} holds something else; move it away")
        self._step("venv", [sys.executable, "-m", "venv", "--clear", str(self.folder)])

    def _put_over_ours(self) -> None:
        folder, *packages = _ours()
        lines = [folder, *(f"import site; site.addsitedir({path!r})" for path in packages)]
        (self._site_packages() / LAYER).write_text("\n".join(lines) + "\n")

    def _site_packages(self) -> Path:
        (found,) = (self.folder / "lib").glob("python*/site-packages")
        return found

    def _install(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            constraints = Path(folder) / "constraints.txt"
            constraints.write_text("".join(f"{package}=={version(package)}\n" for package in SHARED))
            pip = [str(self.python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
            self._step("pip", [*pip, "-c", str(constraints), *self.requirements])

    def _try_out(self) -> dict[str, str]:
        """Imports what a contestant needs; the versions of what the environment has of its own."""
        code = (
            f"import json, sys, {self.module}, gpu_gs.bench.contestants\n"
            "from importlib.metadata import distributions\n"
            "own = {d.name: d.version for d in distributions(path=sys.argv[1:])}\n"
            "print(json.dumps(own))"
        )
        output = self._step("import", [str(self.python), "-P", "-c", code, str(self._site_packages())])
        found = json.loads(output.splitlines()[-1])
        return {name: found[name] for name in sorted(found) if name not in ("pip", "setuptools")}

    def _found(self, versions: dict[str, str]) -> str:
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name

        by_name = {canonicalize_name(name): number for name, number in versions.items()}
        wanted = [canonicalize_name(Requirement(text).name) for text in self.requirements]
        return ", ".join(f"{name} {by_name[name]}" if name in by_name else f"our {name}" for name in wanted)

    def _step(self, what: str, command: Sequence[str]) -> str:
        """Runs a command; what it prints."""
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        try:
            process = subprocess.run(command, capture_output=True, text=True, check=False, env=kept)
        except OSError as error:
            raise EnvironmentSetupError(f"{self.name}: {what}: {error}") from error
        if process.returncode != 0:
            said = (process.stdout + process.stderr).strip().splitlines()[-SHOWN_LINES:]
            raise EnvironmentSetupError("\n  ".join([f"{self.name}: {what} failed in {self.folder}:", *said]))
        return process.stdout


def _python() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def _ours() -> list[str]:
    """The folder of gpu_gs, then those of the packages installed beside it."""
    packages = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    folder = str(Path(gpu_gs.__file__).resolve().parent.parent)
    return list(dict.fromkeys([folder, *(path for path in packages if Path(path).is_dir())]))
