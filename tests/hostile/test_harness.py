"""The catalog's own check: a command that behaves passes, and every kind of misbehavior is noticed."""

import os
import sys

import pytest
from hostile import kinds
from hostile.harness import Case, check, run_command

from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path

REFUSES = "raise InputError(f'{argv[0]}: not a picture')"
MISBEHAVIOR = {
    "status-0": ("pass", "status 0"),
    "status-1": ("sys.exit(1)", "status 1"),
    "traceback": ("raise KeyError('a')", "Traceback"),
    "printed-traceback": (f"print('Traceback (most recent call last)', file=sys.stderr); {REFUSES}", "Traceback"),
    "library-warning": (f"import warnings; warnings.warn('odd', RuntimeWarning); {REFUSES}", "a library's warning"),
    "two-errors": (f"print('error: first', file=sys.stderr); {REFUSES}", "status 2"),
    "another-culprit": ("raise InputError('the input is wrong')", "'input.png' is not in the error line"),
    "long-line": ("print('error:', argv[0] + 'x' * 9999, file=sys.stderr); sys.exit(2)", "characters"),
    "hidden-file": (f"Path('.input.png.part').touch(); {REFUSES}", "left behind"),
    "new-folder": (f"Path('results').mkdir(); {REFUSES}", "left behind"),
    "input-overwritten": (f"Path(argv[0]).write_text('ours'); {REFUSES}", "inputs changed"),
    "input-removed": (f"Path(argv[0]).unlink(); {REFUSES}", "inputs changed"),
    "temporary-file": (f"tempfile.mkdtemp(); {REFUSES}", "for temporary files"),
    "memory": (f"bytearray(700 << 20); {REFUSES}", "grew by"),
    "bomb": ("bytearray(1 << 40)", "MemoryError"),
    "hang": ("time.sleep(60)", "ran longer"),
    "fifo": ("os.mkfifo('pipe'); open('pipe')", "ran longer"),
}


def command(folder, body):
    path = folder / "command.py"
    path.write_text(
        "import os, sys, tempfile, time\nfrom pathlib import Path\nfrom champ_jax.common.cli import run\n"
        f"from champ_jax.common.errors import InputError\ndef main(argv):\n    {body}\nrun(main)\n"
    )
    return str(path)


def case(command, **options):
    return Case("case", command, lambda folder: [kinds.content(b"mine")(folder / "input.png")], "input.png", **options)


def test_a_refusal_in_one_line_passes(tmp_path):
    result = check(case(command(tmp_path, f"print('done'); {REFUSES}")), tmp_path)
    assert result.errors == [f"error: {tmp_path}/case/input.png: not a picture"]
    assert result.stdout == "done\n"


@pytest.mark.parametrize("kind", MISBEHAVIOR)
def test_misbehavior_is_noticed(kind, tmp_path):
    body, noticed = MISBEHAVIOR[kind]
    with pytest.raises(AssertionError, match=noticed):
        check(case(command(tmp_path, body), seconds=1.0 if noticed == "ran longer" else 60.0), tmp_path)


def test_what_native_code_writes_is_seen_and_the_process_is_put_back(tmp_path):
    before = dict(os.environ), os.getcwd(), sys.argv
    body = "os.environ['HOSTILE'] = '1'; os.chdir('/'); os.write(2, b'native\\n')"
    result = run_command(command(tmp_path, body), [], tmp_path)
    assert (result.status, result.stderr) == (0, "native\n")
    assert (dict(os.environ), os.getcwd(), sys.argv) == before


def test_permissions_bind_root_too(tmp_path):
    kinds.unreadable(tmp_path / "secret")
    kinds.read_only_folder(tmp_path / "out")
    result = run_command(command(tmp_path, "open('secret')"), [], tmp_path)
    assert "Permission denied" in result.stderr
    result = run_command(command(tmp_path, "open('closed/out', 'w')"), [], tmp_path)
    assert "Permission denied" in result.stderr


def test_a_file_that_grows_too_large_meets_a_full_disk(tmp_path):
    with kinds.largest_file(1000), pytest.raises(InputError, match="is full"), atomic_path(tmp_path / "a") as path:
        path.write_bytes(bytes(2000))


@pytest.mark.parametrize(
    "group", ["PICTURES", "VIDEOS", "ARRAYS", "JSON", "SAFETENSORS", "FILE_OUTPUTS", "FOLDER_OUTPUTS"]
)
def test_every_kind_can_be_made(group, tmp_path):
    for name, make in getattr(kinds, group).items():
        (tmp_path / name).mkdir()
        path = make(tmp_path / name / "a.bin")
        assert os.path.lexists(path) or name in ("missing", "below-a-file", "long-name", "read-only-folder", "proc")
    assert len(kinds.zip_bomb(size=64 << 20)) < 1 << 20
