"""Drop-in: dataset conventions. A file here is a reader; its name is the reader's id."""
