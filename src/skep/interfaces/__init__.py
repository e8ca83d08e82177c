"""The faces of Skep: they parse, call `skep.app`, and print."""
