"""The progress bar shows on terminals only and hands every item through."""

from quantkeras.terminal.progress import progress


def test_items_pass_and_nothing_is_written_off_a_terminal(capsys):
    assert list(progress(iter([1, 2, 3]), total=3, title="calibrate")) == [1, 2, 3]
    assert list(progress([])) == []
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
