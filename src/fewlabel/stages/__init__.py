"""One user verb per file: settings in, artifact folder out. Stages never import each other."""
