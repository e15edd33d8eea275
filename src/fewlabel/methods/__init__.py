"""Drop-in: pre-training methods. A file here is a method; its name is the method's id."""
