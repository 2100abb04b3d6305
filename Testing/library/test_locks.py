import subprocess
import sys

from MambaSegmentLib.locks import try_lock


def test_one_at_a_time_and_free_when_closed(tmp_path):
    path = tmp_path / "x"
    path.write_text("content")
    with path.open("r+b") as first, path.open("r+b") as second:
        assert try_lock(first)
        assert not try_lock(second)
        assert second.read() == b"content"  # what is locked may be read
    with path.open("ab") as third:
        assert try_lock(third)


def test_a_killed_process_holds_nothing(tmp_path, repository):
    path = tmp_path / "x"
    script = (
        "import sys, time\nfrom MambaSegmentLib.locks import try_lock\nstream = open(sys.argv[1], 'ab')\n"
        "print(try_lock(stream), flush=True)\ntime.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(path)], cwd=repository, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline().strip() == b"True"
        with path.open("ab") as stream:
            assert not try_lock(stream)
    finally:
        holder.kill()
        holder.communicate()
    with path.open("ab") as stream:
        assert try_lock(stream)
