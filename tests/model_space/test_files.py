"""Files appear whole or not at all, and users' files are read or refused in one line."""

import os
import signal
import time
from multiprocessing import get_context

import pytest

from model_space.errors import InputError
from model_space.files import (
    check_writable,
    partial_path,
    read_json,
    write_text,
    write_whole,
    write_whole_folder,
)

fork = get_context("fork")


def test_what_an_error_or_a_kill_leaves(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_text(path, "first")
    with pytest.raises(KeyboardInterrupt), write_whole(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "first" and list(path.parent.iterdir()) == [path]

    def write_and_wait():
        with write_whole(path) as partial:
            partial.write_text("half")
            time.sleep(60)

    process = fork.Process(target=write_and_wait)
    process.start()
    while not (partial_path(path).exists() and partial_path(path).read_text()):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert path.read_text() == "first" and partial_path(path).read_text() == "half"
    write_text(path, "second")
    assert path.read_text() == "second" and list(path.parent.iterdir()) == [path]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "new" / "folder"
    with pytest.raises(KeyboardInterrupt), write_whole_folder(folder) as partial:
        write_text(partial / "file.txt", "half")
        raise KeyboardInterrupt
    assert not list(folder.parent.iterdir())
    write_text(partial_path(folder) / "left.txt", "what a killed process left")
    folder.mkdir()  # an empty one is as good as none
    with write_whole_folder(folder) as partial:
        write_text(partial / "file.txt", "whole")
        assert not list(folder.iterdir())
    assert [path.name for path in folder.iterdir()] == ["file.txt"] and list(folder.parent.iterdir()) == [folder]
    with (
        pytest.raises(InputError, match=r"folder: holds something already \('file\.txt'\)"),
        write_whole_folder(folder),
    ):
        pytest.fail("something is in it")
    with pytest.raises(InputError, match="cannot be written"), write_whole_folder(folder / "file.txt" / "below"):
        pytest.fail("it is below a file")


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="cannot be written: "):
            check_writable(path)
        with pytest.raises(InputError, match="cannot be written: "):
            write_text(path, "text")
    check_writable(tmp_path / "new")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_processes_that_write_one_file_take_turns(tmp_path):
    path = tmp_path / "file.txt"
    texts = [str(number) * 100_000 for number in range(4)]

    def write_often(text):
        for _ in range(50):
            write_text(path, text)
            assert path.read_text() in texts

    processes = [fork.Process(target=write_often, args=[text]) for text in texts]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert path.read_text() in texts and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r", line 1, column 1: not a file of answers: the JSON ends or breaks here \(Expecting value\)"),
        (b'{"a": 1,\n "b"', ", line 2, column 5: not a file of answers: the JSON"),
        (b"[" * 100_000, r": not a file of answers: JSON that cannot be read \(maximum recursion depth"),
        (b"1" * 5000, r": not a file of answers: JSON that cannot be read \(Exceeds the limit"),
        (b'{"a": 1,\n\t"b": [{"c": 1,\n\t"c": 2}]}', ", line 3: the key 'c' is in line 2 already"),
        # Too long, and too deep, for a parser of YAML, which would know the lines:
        (b'{"%s": 1, "%s": 2}' % (2 * (b"k" * 2000,)), ": the key 'k+' stands twice in one object"),
        (b'{"a": 1, "a": %s}' % (700 * b"[" + 700 * b"]"), ": the key 'a' stands twice in one object"),
        (b"\xff\xfe{}", ": a file of answers cannot be read: not UTF-8"),
        (None, ": a file of answers cannot be read: No such file"),
    ],
)
def test_what_is_no_json(tmp_path, content, message):
    path = tmp_path / "some.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"^{path}{message}") as error:
        read_json(path, "a file of answers")
    assert "\n" not in str(error.value)
