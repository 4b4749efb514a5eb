"""The rewrite rules, one file per family. ``sanitize.pipeline`` lists them in their order."""
