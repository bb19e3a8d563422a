"""The commands of `headrace`, a module each; `stream.cli` puts them together."""
