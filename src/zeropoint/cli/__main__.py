"""``python -m zeropoint.cli``: the command, where its script is not on the path."""

from zeropoint.cli import main

main(prog_name="zeropoint")
