"""``python -m fewlabel``, which is how ``torchrun`` starts a stage."""

import sys

try:
    from fewlabel.cli import main
except KeyboardInterrupt:
    sys.stderr.write("Interrupted.\n")
    sys.exit(130)

if __name__ == "__main__":
    main()
