"""The extra `cli`: the commands that need nothing else, and a sentence from one that does."""

import subprocess
import sys


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "samplewise", *arguments], capture_output=True, text=True)


assert command("--help").returncode == 0
assert "ir_dro(r" in command("rules").stdout
found = command("weights", "--rule", "top_k(share=0.5)", "--losses", "1,2")
assert found.stdout.split()[2:6] == ["1", "0.0000", "2", "2.0000"], found
refused = command("score", "--model", "m", "--data", "d", "--out", "o")
assert refused.returncode == 1
assert 'pip install "samplewise[' in refused.stderr, refused
