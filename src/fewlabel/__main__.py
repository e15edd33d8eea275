"""``python -m fewlabel``, which is how ``torchrun`` starts a stage."""

from fewlabel.cli import main

if __name__ == "__main__":
    main()
