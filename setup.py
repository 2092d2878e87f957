"""Builds the native part (native/Makefile) before the Python package is collected."""

import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.develop import develop

NATIVE = Path(__file__).parent / "native"


def build_native() -> None:
    subprocess.run(["make", "-C", str(NATIVE), "--no-print-directory"], check=True)


class BuildPy(build_py):
    def run(self) -> None:
        build_native()
        super().run()


class Develop(develop):
    def run(self) -> None:
        build_native()
        super().run()


setup(cmdclass={"build_py": BuildPy, "develop": Develop})
