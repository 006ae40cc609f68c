"""``python -m mmrun``, which `torchrun -m mmrun` starts."""

from mmrun.cli.main import main

main()
