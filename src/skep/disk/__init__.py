"""The disk below every room that keeps something: files whole or absent, SQLite files with one writer and group commit."""
