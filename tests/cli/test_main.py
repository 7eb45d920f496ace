"""The front door: help without waiting, exit codes, one message an error."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time

import pytest

from planprobe.cli import main as front_door

HELP_BUDGET_SECONDS = 0.3  # of processor time, which other jobs on the machine do not add to


def _run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "planprobe", *arguments], capture_output=True, text=True, check=False)


def test_help_is_quick_and_names_every_verb(record_property):
    worked, took = [], []
    for _ in range(3):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        result = _run("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        worked.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        took.append(time.perf_counter() - start)
    record_property("help_seconds", min(took))
    sys.stdout.write(f"planprobe --help: {1000 * min(took):.0f} ms, {1000 * min(worked):.0f} ms of work\n")
    assert result.returncode == 0
    assert all(f"\n  {verb} " in result.stdout for verb in front_door.VERBS)
    assert min(worked) < HELP_BUDGET_SECONDS


def test_nothing_heavy_is_imported_for_help():
    code = "import sys; from planprobe.__main__ import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.split()
    assert {"torch", "numpy", "tyro", "rich"}.isdisjoint(loaded)


def test_an_error_is_one_message_and_exit_code_2_in_a_real_process():
    result = _run("evla", "x")
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Did you mean 'eval'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("verb", front_door.VERBS)
def test_every_verb_explains_itself_without_torch(cli, verb):
    result = cli(verb, "--help")
    assert result.code == 0
    assert f"planprobe {verb}" in result.out


@pytest.mark.parametrize(
    "verb", ["agents list", "agents show", "agents verify", "agents publish", "levels generate", "levels solve",
             "levels convert", "levels show"],
)  # fmt: skip
def test_every_inner_verb_has_examples(cli, verb):
    result = cli(*verb.split(), "--help")
    assert result.code == 0
    assert f"  planprobe {verb}" in result.out


def test_bad_arguments_exit_with_2(cli):
    assert cli("train").code == 2
    assert cli("levels").code == 2
    assert cli("levels", "generate", "--bogus").code == 2


@pytest.mark.parametrize("argument", ["--help", "--version"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_has_left_is_no_error(argument, unbuffered):
    """`planprobe --help | head -1`: unbuffered the print fails, else only the flush at exit."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "planprobe", argument]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, "")


def test_version(cli):
    from planprobe import __version__

    assert cli("--version").out == f"planprobe {__version__}\n"


def test_an_interrupt_exits_with_130(cli, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(front_door, "_run_verb", interrupt)
    result = cli("train", "x.toml")
    assert (result.code, result.out) == (130, "")


def test_a_full_disk_is_a_message_not_a_traceback(cli, monkeypatch):
    def fill(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(front_door, "_run_verb", fill)
    result = cli("train", "x.toml")
    assert result.code == 2
    assert "No space left" in result.err
