"""Puts the shipped agents into the wheel, as planprobe/_agents; everything else about the package is in pyproject.toml.

The agents live beside the package, as data, and package data must lie inside it. An importable top-level `agents` would
collide with a well-known package, so the build copies them under a private name; `subjects.zoo` looks there first.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

AGENTS = Path(__file__).parent / "agents"
AGENT_FILES = ("recipe.toml", "weights.safetensors", "metrics.json", "CARD.md")


class BuildWithAgents(build_py):
    """`build_py`, and the agents: an editable install has none to copy, it reads the checkout."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        shutil.rmtree(Path(self.build_lib, "planprobe", "_agents"), ignore_errors=True)  # of an earlier build
        for target, source in self._agent_files().items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target, preserve_mode=False)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *([] if self.editable_mode else self._agent_files())]

    def _agent_files(self) -> dict[str, str]:
        """Where to -> where from."""
        found = [path for name in AGENT_FILES for path in sorted(AGENTS.rglob(name))]
        return {
            str(Path(self.build_lib, "planprobe", "_agents", path.relative_to(AGENTS))): str(path) for path in found
        }


setup(cmdclass={"build_py": BuildWithAgents})
